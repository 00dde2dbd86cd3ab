"""The clients of the rehearsal: numbered messages, each said again until it is acknowledged.

Each goes by docs/reconnecting.md: a random pause after any end, doubling with every try that fails, bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.backends import wire
from tests.backends.ledger import numbered

Address = tuple[str, int]

HANDSHAKE_S = 15.0
PATIENCE_S = 15.0
MOST_PAUSE_S = 10.0
FAREWELL_S = 30.0


@dataclass(slots=True)
class Absence:
    """One end that a client did not want, and its way back. `back_s`: when it was served again.

    `pauses_s`: what it waited of its own accord meanwhile.
    """

    client: str
    code: int
    closed_s: float
    pauses_s: float = 0.0
    refused: int = 0
    back_s: float | None = None


@dataclass(slots=True)
class Account:
    """What a client knows of its messages, numbered from 0: how many it said, which were acknowledged."""

    identity: str
    said: int = 0
    repeated: int = 0
    acknowledged: set[int] = field(default_factory=set)


class Client:
    """One client: `account` of all its connections, one connection at a time."""

    def __init__(self, number: int, crowd: Crowd) -> None:
        self.account = Account(f"c{number}")
        self.served = False
        self._crowd = crowd
        self._dice = random.Random(f"{crowd.seed}/{number}")
        self._waiting: dict[int, str] = {}  # said, not acknowledged
        self._wire: wire.Wire | None = None
        self._saying: asyncio.TimerHandle | None = None
        self._absence: Absence | None = None
        self._progress_s = 0.0
        self._last_said = self._left = False

    async def live(self) -> None:
        """Connect, talk, come back, until all has been said and acknowledged."""
        failed = 0
        while not self._left:
            failed = 0 if await self._visit() else failed + 1
            if not self._left:
                pause_s = self._dice.uniform(0, min(self._crowd.pause_s * 2**failed, MOST_PAUSE_S))
                if self._absence is not None:
                    self._absence.pauses_s += pause_s
                await asyncio.sleep(pause_s)

    async def _visit(self) -> bool:
        """Stay for one connection; return whether it was served."""
        async with contextlib.nullcontext() if self.account.said else self._crowd.slots:
            connection = await self._open()
        if connection is None:
            return False
        self._wire = connection
        try:
            await self._talk(connection)
        finally:
            was_served, self.served = self.served, False
            if self._saying is not None:
                self._saying.cancel()
            connection.abort()
        return was_served

    async def _open(self) -> wire.Wire | None:
        """Dial and upgrade; None, and why is counted, when that fails."""
        connection = None
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                request = wire.upgrade(f"/ledger/{self.account.identity}")
                connection = await wire.Wire.dial(self._crowd.address, request)
                if (status := (await connection.head()).status) == 101:
                    return connection
            self._refused(f"HTTP {status}")
        except (OSError, wire.ClosedError) as error:
            self._refused(type(error).__name__)
        if connection is not None:
            connection.abort()
        return None

    def _refused(self, how: str) -> None:
        self._crowd.refusals[how] += 1
        if self._absence is not None:
            self._absence.refused += 1

    async def _talk(self, connection: wire.Wire) -> None:
        loop = asyncio.get_running_loop()
        self._progress_s = loop.time()
        self.account.repeated += len(self._waiting)
        connection.send(*map(wire.text, self._waiting.values()))
        self._say(every_s=self._dice.uniform(0, 2 * self._crowd.every_s))
        heard = 0
        try:
            while not (self._last_said and not self._waiting):
                heard = self._hear((await connection.message()).decode(errors="replace"), heard)
            self._left = True
            await connection.leave()
        except wire.ClosedError as error:
            self._left = False
            if self._absence is None:
                self._absence = Absence(self.account.identity, error.code, loop.time())
                self._crowd.absences.append(self._absence)
            else:  # closed again before it was served
                self._absence.refused += 1

    def _say(self, every_s: float = 0.0) -> None:
        """Say the next message and come back to say another; give up a connection on which nothing moves."""
        loop = asyncio.get_running_loop()
        if self._waiting and loop.time() - self._progress_s > PATIENCE_S:
            self._crowd.trouble.append(f"{self.account.identity}: no answer for {PATIENCE_S:.0f} s")
            self._wire.abort()
            return
        if not self._last_said:
            self._last_said = self._crowd.leaving
            text = numbered("c", self.account.identity, self.account.said)
            self._waiting[self.account.said] = text
            self.account.said += 1
            self._wire.send(wire.text(text))
        every_s = every_s or self._crowd.every_s * self._dice.uniform(0.5, 1.5)
        self._saying = loop.call_later(every_s, self._say)

    def say_last(self) -> None:
        """Say one more message, the last; once all are acknowledged the client leaves."""
        if self._saying is not None and self.served:
            self._saying.cancel()
            self._say()

    def _hear(self, text: str, heard: int) -> int:
        """Take an acknowledgement or a push; return how many pushes came."""
        kind, _, rest = text.partition(":")
        if kind == "a" and rest.isdecimal():
            self._acknowledged(int(rest))
        elif text == numbered("s", self.account.identity, heard):
            self._wire.send(wire.text(f"k:{heard}"))
            return heard + 1
        else:
            self._crowd.trouble.append(f"{self.account.identity} heard {text[:40]!r}, push {heard} was due")
        return heard

    def _acknowledged(self, number: int) -> None:
        self._progress_s = asyncio.get_running_loop().time()
        if self._waiting.pop(number, None) is None:
            self._crowd.trouble.append(f"{self.account.identity}: {number} was acknowledged unasked")
        self.account.acknowledged.add(number)
        self.served = True
        if self._absence is not None:
            self._absence.back_s, self._absence = self._progress_s, None


class Crowd:
    """All clients. `every_s`: between two messages of one; `pause_s`: at most, before it comes back.

    `at_once`: how many open their first connection together. `leaving`: no more than one more message each.
    """

    def __init__(
        self, address: Address, count: int, seed: str, every_s: float, pause_s: float, at_once: int
    ) -> None:
        self.address, self.seed = address, seed
        self.every_s, self.pause_s = every_s, pause_s
        self.slots = asyncio.Semaphore(at_once)
        self.leaving = False
        self.absences: list[Absence] = []
        self.refusals: Counter[str] = Counter()
        self.trouble: list[str] = []
        self.clients = [Client(number, self) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def served(self) -> int:
        """How many clients have a connection on which they have been answered to."""
        return sum(client.served for client in self.clients)

    @property
    def accounts(self) -> list[Account]:
        return [client.account for client in self.clients]

    def set_out(self) -> None:
        """Let all clients live."""
        self._tasks = [asyncio.create_task(client.live()) for client in self.clients]

    async def all_served(self, within_s: float) -> None:
        """Wait until each is served. RuntimeError when that takes too long, or a client has failed."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while self.served < len(self.clients):
            for task in self._tasks:
                if task.done():
                    task.result()
            if loop.time() > until_s:
                raise RuntimeError(f"{self.served} of {len(self.clients)} clients are served")
            await asyncio.sleep(0.05)

    async def leave(self) -> None:
        """Let each say its last message, have everything acknowledged, and close."""
        self.leaving = True
        for client in self.clients:
            client.say_last()
        _, stuck = await asyncio.wait(self._tasks, timeout=FAREWELL_S)
        for task in stuck:
            task.cancel()
        self.trouble += [f"{len(stuck)} clients could not finish"] if stuck else []
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
