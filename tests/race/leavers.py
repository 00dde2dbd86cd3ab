"""Clients that leave: before the backend accepts, or in the midst of an open session.

Not one of them waits for the answer to what it said last. `Visit` is what is remembered of one.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Literal

from tests.backends import wire
from tests.race.clients import PATIENCE_S, Address, Outcome

# The first departures of a route wait 250 ms. An answer to a Close that was held back as long is not prompt.
PROMPT_MS = 200.0


@dataclass(frozen=True, slots=True)
class Leaver:
    """How a client leaves before it is accepted, and what it said before."""

    reset: bool
    says: int
    closes: bool = False


LEAVERS = (
    Leaver(reset=False, says=0),
    Leaver(reset=True, says=0),
    Leaver(reset=False, says=2, closes=True),
    Leaver(reset=False, says=2),
)


async def say_and_leave(address: Address, path: str, number: int, dice: random.Random) -> list[str]:
    """Ask for the upgrade, say what this kind of leaver says, be gone within 150 ms. Returns what it said."""
    leaver = LEAVERS[number % len(LEAVERS)]
    said = [f"{number}:{at}" for at in range(leaver.says)]
    first = wire.upgrade(path) + b"".join(wire.text(message) for message in said)
    client = await wire.Wire.dial(address, first + (wire.close() if leaver.closes else b""))
    await asyncio.sleep(dice.uniform(0.005, 0.15))
    if leaver.reset:
        client.abort()
    else:
        client.hang_up()
    return said


# Clients that leave an open session.


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client behaves on an open session until it is gone.

    It asks `asks` times and hears `hears` parts of the answers, each answer being of `parts` parts. Then it
    leaves: with a Close, a reset or the mere end of TCP; `last_words` are sent in the very same write.
    """

    by: Literal["close", "reset", "end"]
    asks: int = 0
    hears: int = 0
    parts: int = 1
    last_words: bool = True


@dataclass(slots=True)
class Visit:
    """One client on an open session: what it said and heard, and with which code it left."""

    number: int
    manner: Manner
    outcome: Outcome
    said: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    @property
    def code(self) -> int:
        return 4000 + self.number % 1000

    @property
    def answers(self) -> list[bytes]:
        """Everything that it might hear, in order."""
        return [f"{text}/{part}".encode() for text in self.said for part in range(self.manner.parts)]

    def next(self) -> bytes:
        self.said.append(f"{self.number}:{len(self.said)}")
        return wire.text(self.said[-1])


class Goer(wire.Wire):
    """A client that can say something and leave in one write."""

    def say_and_close(self, words: bytes, code: int) -> None:
        self._sent_close = True
        self.send(words, wire.close(code))

    async def say_and_vanish(self, words: bytes, *, reset: bool) -> None:
        """Send, and end the connection once the kernel has taken it: a reset drops what it has not."""
        self.send(words)
        while self.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        if reset:
            self.abort()
        else:
            self.hang_up()


async def visit(address: Address, path: str, number: int, manner: Manner) -> Visit:
    """Open a session, behave, and be gone; never raises for what the network does."""
    outcome = Outcome(number)
    current = Visit(number, manner, outcome)
    try:
        client = await Goer.dial(address, wire.upgrade(path))
    except OSError as error:
        outcome.why = type(error).__name__
        return current
    try:
        async with asyncio.timeout(PATIENCE_S):
            if await _stay(client, current):
                await _go(client, current)
    except wire.ClosedError as error:
        outcome.why = f"not answered: {error}"
    except TimeoutError:
        outcome.why = "stalled"
    finally:
        client.abort()
        await client.gone.wait()
    return current


async def _stay(client: Goer, current: Visit) -> bool:
    """Ask and hear; return whether there is a session."""
    head = await client.head()
    if head.status != 101:
        current.outcome.why = f"HTTP {head.status}"
        return False
    current.outcome.opened, current.outcome.open_ms = True, client.open_s * 1000
    for _ in range(current.manner.asks):
        client.send(current.next())
    while len(current.heard) < current.manner.hears:
        current.heard.append(await client.message())
    return True


async def _go(client: Goer, current: Visit) -> None:
    words = current.next() if current.manner.last_words else b""
    if current.manner.by != "close":
        await client.say_and_vanish(words, reset=current.manner.by == "reset")
        return
    began = time.perf_counter()
    client.say_and_close(words, current.code)
    while (frame := await client.frame()).opcode != 0x8:
        if frame.opcode < 0x8:
            current.heard.append(frame.payload)
    outcome = current.outcome
    outcome.close_ms = (time.perf_counter() - began) * 1000
    outcome.close_code = int.from_bytes(frame.payload[:2], "big")
    await client.gone.wait()
