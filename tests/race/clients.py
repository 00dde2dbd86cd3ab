"""The clients of the race: each opens one connection once, says numbered messages, judges what it got."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from tests.backends import wire

PATIENCE_S = 12.0
STALL_S = 1.0
Address = tuple[str, int]


@dataclass(slots=True)
class Outcome:
    """What became of one connection. `lost`, `duplicated`, `disordered` count messages of both directions.

    `close_ms`: from its own Close to the answer, which had `close_code`; None where that is not the subject.
    """

    number: int
    opened: bool = False
    open_ms: float | None = None
    close_ms: float | None = None
    close_code: int | None = None
    lost: int = 0
    duplicated: int = 0
    disordered: int = 0
    why: str = ""

    @property
    def served(self) -> bool:
        return self.opened and not (self.lost or self.duplicated or self.disordered or self.why)

    def judge(self, expected: list[bytes], got: list[bytes]) -> None:
        """Compare what should have come with what came."""
        wanted, had = Counter(expected), Counter(got)
        self.lost = (wanted - had).total()
        self.duplicated = (had - wanted).total()
        place = {message: at for at, message in enumerate(expected)}
        order = [place[message] for message in got if message in place]
        self.disordered = sum(later < earlier for earlier, later in pairwise(order))


@dataclass(frozen=True, slots=True)
class Script:
    """What a client does.

    `early`: messages in the same segment as the upgrade. `blind`: one each 30 ms, not waiting for the 101.
    `after`: messages at once after the 101. `stays_ms`: it keeps the session that long, then says a last one.
    `hears`: messages that the server sends of its own accord first. `drop_over_read`: see `Wire`.
    """

    early: int = 0
    blind: int = 0
    after: int = 3
    stays_ms: float = 0
    hears: tuple[bytes, ...] = ()
    drop_over_read: bool = False


@dataclass(slots=True)
class Talk:
    """One connection as it follows a script."""

    script: Script
    number: int
    said: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)

    def next(self) -> bytes:
        message = f"{self.number}:{len(self.said)}"
        self.said.append(message.encode())
        return wire.text(message)

    @property
    def expected(self) -> list[bytes]:
        return [*self.script.hears, *self.said]


async def talk(address: Address, path: str, script: Script, number: int) -> Outcome:
    """Follow the script on one new connection; never raises for what the network does."""
    outcome, current = Outcome(number), Talk(script, number)
    first = wire.upgrade(path) + b"".join(current.next() for _ in range(script.early))
    try:
        client = await wire.Wire.dial(address, first, drop_over_read=script.drop_over_read)
    except OSError as error:
        outcome.why = type(error).__name__
        return outcome
    try:
        async with asyncio.timeout(PATIENCE_S + 5):
            await _follow(client, current, outcome)
    except wire.ClosedError as error:
        outcome.why = str(error)
    except TimeoutError:
        outcome.why = "stalled"
    finally:
        client.abort()
    if outcome.opened:
        outcome.judge(current.expected, current.got)
    return outcome


async def _follow(client: wire.Wire, current: Talk, outcome: Outcome) -> None:
    for _ in range(current.script.blind):
        await asyncio.sleep(0.03)
        client.send(current.next())
    head = await client.head()
    if head.status != 101:
        outcome.why = f"HTTP {head.status}"
        return
    outcome.opened, outcome.open_ms = True, client.open_s * 1000
    for _ in range(current.script.after):
        client.send(current.next())
    await _hear(client, current)
    if current.script.stays_ms:
        await asyncio.sleep(current.script.stays_ms / 1000)
        client.send(current.next())
        await _hear(client, current)
    current.got += await client.leave()


async def _hear(client: wire.Wire, current: Talk) -> None:
    """Listen until the last expected message came. When it stalls, one more message tells lost from late.

    Servers answer in order: once the answer to the extra message is there, what is missing is lost.
    """
    try:
        async with asyncio.timeout(STALL_S):
            await _hear_last(client, current)
    except TimeoutError:
        client.send(current.next())
        async with asyncio.timeout(PATIENCE_S):
            await _hear_last(client, current)


async def _hear_last(client: wire.Wire, current: Talk) -> None:
    last = current.expected[-1]
    while last not in current.got:
        current.got.append(await client.message())
