"""Many idle sessions of a gate: opened, counted, closed. For the soak and the chaos."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from tests.backends import launch, wire
from tests.bench import process

AT_ONCE = 100
BOUND_S = 20.0


async def admin(gate: launch.Server, path: str) -> object:
    """Return the JSON of an admin endpoint."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    client = await wire.Wire.dial((gate.host, gate.admin_port), request)
    return json.loads(await client.body())


async def session_count(gate: launch.Server) -> int:
    """Return how many sessions the gate says it has."""
    answer = await admin(gate, "/sessions")
    return len(answer["sessions"] if isinstance(answer, dict) else answer)


async def until(true: Callable[[], object]) -> bool:
    """Ask again until it is true; False when it was not within the bound."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BOUND_S
    while not await true():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.05)
    return True


async def open_all(gate: launch.Server, count: int) -> list[wire.Wire]:
    """Open sessions, some at once, and exchange one message on each."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> wire.Wire:
        async with slots:
            client = await wire.opened((gate.host, gate.port), "/ws/echo")
            client.send(wire.text("hello"))
            await client.message()
            return client

    return await asyncio.gather(*(one() for _ in range(count)))


async def close_all(gate: launch.Server, clients: list[wire.Wire], descriptors: int | None) -> bool:
    """Close them; whether the gate then has no session, and no more descriptors than before."""
    await asyncio.gather(*(client.leave() for client in clients))

    async def gone() -> bool:
        if await session_count(gate):
            return False
        return descriptors is None or process.descriptors(gate.pid) <= descriptors

    return await until(gone)
