"""The kinds of hostile connections: each opens one, does its harm, and says how it was ended."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import Awaitable, Callable

from tests.hostile import attacks, frames
from tests.hostile.peer import upgrade
from tests.hostile.test_websocket import HANDSHAKES

GET = attacks.GET + b"\r\n"
REFUSED = [attack.sent for group in attacks.REFUSED.values() for attack in group.values()]
OVERSIZED = [attack.sent for attack in attacks.OVERSIZED.values()]
FRAMES = [*frames.PASSED.values(), *frames.TOO_LONG.values(), *frames.CLOSES.values()]
SPLIT = [attack.sent.partition(b"\r\n\r\n") for attack in attacks.CHUNKS.values()]
PINGS = frames.said(0x89, b"x" * 100) * 1000
ECHOES = frames.said(0x81, b"x" * 60_000)


class Line:
    """One hostile connection. `ended` says how the gate took it; never reading is done by not asking."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random
    ) -> None:
        self.reader, self.writer, self.dice = reader, writer, dice
        self.got = b""

    async def say(self, data: bytes) -> None:
        """Write it; wait for room, unless the gate has ended."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def ended(self) -> str:
        """Read until the end; return the statuses and Close codes that came."""
        try:
            while part := await self.reader.read(65536):
                self.got = (self.got + part)[:4096]
        except ConnectionError:
            return self.told("reset")
        return self.told("closed")

    def told(self, how: str) -> str:
        """Return what came, and how it ended."""
        statuses = dict.fromkeys(re.findall(rb"HTTP/1\.[01] (\d{3})", self.got))
        if close := re.search(rb"\x88[\x02-\x7d](..)", self.got, re.DOTALL):
            how = f"close {int.from_bytes(close[1], 'big')}"
        return ", ".join([*(status.decode() for status in statuses), how])

    async def head(self) -> None:
        """Wait for a response's head."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.got += await self.reader.readuntil(b"\r\n\r\n")

    def vanish(self) -> None:
        """Reset it."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def half_open(line: Line) -> str:
    """Say nothing, or half of a head, and wait."""
    await line.say(line.dice.choice([b"", b"GET ", GET[:-2], upgrade()[:-2], b"\r\n"]))
    return await line.ended()


async def slow_head(line: Line) -> str:
    """A byte of a head now and then."""
    ending = asyncio.create_task(line.ended())
    for byte in upgrade():
        line.writer.write(bytes([byte]))
        if (await asyncio.wait([ending], timeout=0.5))[0]:
            break
    return await ending


async def slow_body(line: Line) -> str:
    """A body that stops coming."""
    await line.say(
        line.dice.choice([attacks.CHUNKED + b"5\r\nhel", attacks.POST + b"Content-Length: 99\r\n\r\nx"])
    )
    return await line.ended()


async def garbage(line: Line) -> str:
    """Anything but HTTP."""
    await line.say(line.dice.choice([line.dice.randbytes(600), b"\x16\x03\x01" + bytes(500), frames.BOMB]))
    return await line.ended()


async def smuggling(line: Line) -> str:
    """A request that two servers might read differently."""
    await line.say(line.dice.choice(REFUSED))
    return await line.ended()


async def smuggling_late(line: Line) -> str:
    """A bad chunk behind a head that the backend has already; nobody waits for what becomes of it."""
    head, end, rest = line.dice.choice(SPLIT)
    await line.say(head + end)
    await asyncio.sleep(0.05)
    await line.say(rest)
    await asyncio.sleep(1)
    return line.told("left")


async def oversized(line: Line) -> str:
    """A head that is too large."""
    await line.say(line.dice.choice(OVERSIZED))
    return await line.ended()


async def bad_upgrade(line: Line) -> str:
    """A handshake that breaks RFC 6455."""
    await line.say(line.dice.choice(list(HANDSHAKES.values()))[0])
    return await line.ended()


async def odd_frames(line: Line) -> str:
    """A good handshake, and frames that break RFC 6455, at once or later."""
    asked = upgrade(target=line.dice.choice([b"/ws", b"/limited"]))
    odd = line.dice.choice(FRAMES)
    if line.dice.random() < 0.5:
        await line.say(asked + odd)
    else:
        await line.say(asked)
        await line.head()
        await line.say(odd)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(line.dice.uniform(1, 5)):
            return await line.ended()
    return line.told("left")


async def flood(line: Line) -> str:
    """A thousand pings, or a pipeline of requests, whose answers nobody takes for a while."""
    await line.say(line.dice.choice([upgrade() + PINGS, GET * 300]))
    await asyncio.sleep(line.dice.uniform(1, 5))
    return line.told("left")


async def never_reading(line: Line) -> str:
    """Ask for more than the kernel holds, and take none of it."""
    line.writer.transport.pause_reading()
    await line.say(line.dice.choice([upgrade() + ECHOES * 20, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 20]))
    await asyncio.sleep(line.dice.uniform(10, 30))
    return line.told("left")


async def reset(line: Line) -> str:
    """Vanish, somewhere on the way."""
    await line.say(line.dice.choice([b"", b"GET ", GET, upgrade(), upgrade() + ECHOES]))
    if line.dice.random() < 0.5:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await line.head()
    line.vanish()
    return line.told("left")


Kind = Callable[[Line], Awaitable[str]]
# How many of ten thousand.
KINDS: dict[str, tuple[Kind, int]] = {
    "half-open": (half_open, 2400),
    "slow head": (slow_head, 500),
    "slow body": (slow_body, 400),
    "garbage": (garbage, 1000),
    "smuggling": (smuggling, 1800),
    "smuggling, late": (smuggling_late, 400),
    "oversized head": (oversized, 500),
    "bad upgrade": (bad_upgrade, 800),
    "odd frames": (odd_frames, 1000),
    "flood": (flood, 100),
    "never reading": (never_reading, 100),
    "reset": (reset, 1000),
}
