"""The clients of `make image-test`, in the containers' namespace: python -m tests.image.inside SESSIONS

Prints a line of JSON for each step: what one client found, when all sessions are open, how they were closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import uvloop

from tests.backends import launch, wire

GATE = ("127.0.0.1", 8080)
AT_ONCE = 50
BOUND_S = 180


async def one_client() -> dict[str, object]:
    """A session with a frame in the segment of its upgrade and a large message; and a plain request."""
    async with await wire.opened(GATE, "/ws/echo", early=wire.text("early")) as client:
        early = await client.message()
        client.send(wire.binary(bytes(65_536)))
        large = await client.message()
        await client.leave()
    request = b"GET /ws/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with await wire.Wire.dial(GATE, request) as plain:
        head, body = await plain.head(), await plain.body()
    return {"early": early.decode(), "large": len(large), "status": head.status, "body": json.loads(body)}


async def session(slots: asyncio.Semaphore) -> wire.Wire:
    async with slots:
        client = await wire.opened(GATE, "/ws/echo")
        client.send(wire.text("hello"))
        assert await client.message() == b"hello"
        return client


async def closed(client: wire.Wire) -> int:
    """Return the code of the Close that it gets at last."""
    try:
        while True:
            await client.message()
    except wire.ClosedError as end:
        await client.gone.wait()
        return end.code


def tell(**step: object) -> None:
    print(json.dumps(step), flush=True)


async def main(sessions: int) -> None:
    launch.may_open()
    async with asyncio.timeout(BOUND_S):
        tell(found=await one_client())
        slots = asyncio.Semaphore(AT_ONCE)
        clients = await asyncio.gather(*(session(slots) for _ in range(sessions)))
        tell(open=len(clients))
        tell(closed=Counter(map(str, await asyncio.gather(*map(closed, clients)))))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
