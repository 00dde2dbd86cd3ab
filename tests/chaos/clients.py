"""The clients of the chaos: each keeps one session alive, says numbered messages, comes back when it ends."""

from __future__ import annotations

import asyncio
import random

from tests.backends import wire
from tests.backends.ledger import numbered
from tests.chaos.accounts import GAVE_UP, LEFT, NO_ANSWER, PLAIN_END, Account

Address = tuple[str, int]

EVERY_S = 1.0
AHEAD = 32
PATIENCE_S = 6.0
HANDSHAKE_S = 15.0
BACK_OFF_S = (0.05, 0.4)
SPREAD_S = 2.0
EARLY = 0.5
FAREWELL_S = 20.0


class Client:
    """One client. `account` is that of its present connection; None while it has none."""

    def __init__(self, number: int, fleet: Fleet) -> None:
        self.number, self.fleet = number, fleet
        self.dice = random.Random(f"{fleet.seed}/{fleet.name}/{number}")
        self.account: Account | None = None
        self._wire: wire.Wire | None = None
        self._tries = 0
        self._progress_s = 0.0
        self._saying: asyncio.TimerHandle | None = None
        self._said_bye = self._closed = False

    @property
    def served(self) -> bool:
        """Whether its present connection has been answered to."""
        account = self.account
        return account is not None and not account.end and account.acknowledged > 0

    async def live(self) -> None:
        """Connect, talk, come back, until the fleet is to leave."""
        await asyncio.sleep(self.dice.uniform(0, SPREAD_S))
        while not self.fleet.leaving.is_set():
            self._tries += 1
            self.account = account = self.fleet.begin(f"{self.fleet.name}{self.number}-{self._tries}")
            await self._session(account)
            self.fleet.end(account)
            if not self.fleet.leaving.is_set():
                await asyncio.sleep(self.dice.uniform(*BACK_OFF_S))

    async def _session(self, account: Account) -> None:
        early = wire.text(self._next(account)) if self.dice.random() < self.fleet.early else b""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                first = wire.upgrade(f"/ledger/{account.identity}") + early
                self._wire = await wire.Wire.dial(self.fleet.address, first)
                head = await self._wire.head()
        except (OSError, wire.ClosedError) as error:
            account.end = GAVE_UP if isinstance(error, TimeoutError) else NO_ANSWER
            if self._wire is not None:
                self._wire.abort()
            return
        if head.status == 101:
            await self._talk(account, self._wire)
        else:
            account.end = f"HTTP {head.status}"
            self._wire.abort()

    async def _talk(self, account: Account, connection: wire.Wire) -> None:
        loop = asyncio.get_running_loop()
        self._progress_s, self._said_bye, self._closed = loop.time(), False, False
        self._say()
        try:
            while not self._finished(account):
                self._hear(account, await connection.frame())
            late = await connection.leave()
            account.end = LEFT
            account.trouble += [f"came after the farewell: {text[:40]!r}" for text in late]
            if connection._close != (1000, ""):
                account.trouble.append(f"its Close 1000 was answered with {connection._close}")
        except wire.ClosedError as error:
            code = PLAIN_END if error.code == 1006 else f"close {error.code}"
            account.end = account.end or code
        finally:
            self._saying.cancel()
            account.rest = bytes(connection._buffer)
            connection.abort()

    def _finished(self, account: Account) -> bool:
        return account.farewell is not None and account.acknowledged == account.sent

    def _next(self, account: Account) -> str:
        account.sent += 1
        return numbered("c", account.identity, account.sent - 1)

    def _say(self) -> None:
        """Say the next message, or goodbye; give up when nothing has moved for too long."""
        loop, account, connection = asyncio.get_running_loop(), self.account, self._wire
        if loop.time() - self._progress_s > PATIENCE_S:
            account.end = GAVE_UP
            connection.abort()
            return
        if self.fleet.leaving.is_set():
            if not self._said_bye:
                self._said_bye = True
                connection.send(wire.text("bye"))
        elif account.sent - account.acknowledged < AHEAD:
            connection.send(wire.text(self._next(account)))
        self._saying = loop.call_later(EVERY_S * self.dice.uniform(0.5, 1.5), self._say)

    def _hear(self, account: Account, frame: wire.Frame) -> None:
        if frame.opcode >= 0x8:
            self._closed |= frame.opcode == 0x8
            return
        text = frame.payload.decode(errors="replace")
        if self._closed:
            account.trouble.append(f"the client heard {text[:40]!r} behind a Close")
        elif text == f"a:{account.acknowledged}" and account.acknowledged < account.sent:
            account.acknowledged += 1
            self._progress_s = asyncio.get_running_loop().time()
        elif text == numbered("s", account.identity, account.heard) and account.farewell is None:
            self._wire.send(wire.text(f"k:{account.heard}"))
            account.heard += 1
        elif text == f"z:{account.heard}" and self._said_bye:
            account.farewell = account.heard
        else:
            due = f"a:{account.acknowledged} or s:{account.heard}"
            account.trouble.append(f"the client heard {text[:40]!r} when {due} was due")


class Fleet:
    """All clients, and the accounts of all their connections.

    `name` begins their identities. `early`: the share of connections that say their first message in the
    segment of their upgrade request.
    """

    def __init__(self, name: str, address: Address, count: int, seed: str, early: float = EARLY) -> None:
        self.name, self.address, self.seed, self.early = name, address, seed, early
        self.leaving = asyncio.Event()
        self.accounts: dict[str, Account] = {}
        self.clients = [Client(number, self) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    def set_out(self) -> None:
        """Let all clients live."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(client.live()) for client in self.clients]

    async def leave(self) -> list[str]:
        """Let all say goodbye and wait for it; return the identities of those that could not finish."""
        self.leaving.set()
        _, stuck = await asyncio.wait(self._tasks, timeout=FAREWELL_S)
        left_over = [account.identity for account in self.accounts.values() if not account.end]
        for task in stuck:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        return left_over

    def begin(self, identity: str) -> Account:
        """Open the account of a new connection."""
        account = Account(identity, began_s=asyncio.get_running_loop().time())
        self.accounts[identity] = account
        return account

    def end(self, account: Account) -> None:
        """Note when it ended."""
        account.ended_s = asyncio.get_running_loop().time()

    @property
    def served(self) -> int:
        """How many clients have a connection that works."""
        return sum(client.served for client in self.clients)

    def living(self) -> set[str]:
        """Return the identities of all connections that have not ended."""
        return {
            client.account.identity for client in self.clients if client.account and not client.account.end
        }
