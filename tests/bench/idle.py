"""What an idle session costs the gate in memory, and whether everything is given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import uvloop

from tests.backends import front, launch, wire
from tests.bench import process
from tests.bench.figure import Figure, echo_backend

TARGET_KB = 30.0
BACK_WITHIN = 1.10
WARM_UP = 200
AT_ONCE = 100
BOUND_S = 20.0
SETTLE_S = 1.0


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


async def stages(gate: launch.Server, count: int) -> dict[str, object]:
    await close_all(gate, await open_all(gate, WARM_UP), None)
    before, files = process.memory_kb(gate.pid), process.descriptors(gate.pid)
    clients = await open_all(gate, count)
    during, files_during = process.memory_kb(gate.pid), process.descriptors(gate.pid)
    open_sessions = await session_count(gate)
    clean = await close_all(gate, clients, files)
    await asyncio.sleep(SETTLE_S)
    after, files_after = process.memory_kb(gate.pid), process.descriptors(gate.pid)
    sessions_after = await session_count(gate)
    await close_all(gate, await open_all(gate, count), files)
    await asyncio.sleep(SETTLE_S)
    again = process.memory_kb(gate.pid)
    return {
        "rss_kb": [before[0], during[0], after[0], again[0]],
        "pss_kb": [before[1], during[1], after[1], again[1]],
        "descriptors": [files, files_during, files_after, process.descriptors(gate.pid)],
        "sessions": [0, open_sessions, sessions_after, await session_count(gate)],
        "clean": clean,
    }


def measure(count: int) -> list[Figure]:
    """Run it: KB per session, and how far memory comes back."""
    with echo_backend() as backend, front.gate(backend.url) as gate:
        seen = uvloop.run(stages(gate, count))
    before, during, after, _ = seen["rss_kb"]
    lines = ["{:<12}{:>9}{:>9}{:>9}{:>21}".format("", "before", "with", "after", "after as many again")]
    for name in ("rss_kb", "pss_kb", "descriptors", "sessions"):
        lines.append("{:<12}{:>9}{:>9}{:>9}{:>21}".format(name, *seen[name]))
    cost = Figure(
        f"{count} idle sessions", "KB resident each", (during - before) / count, TARGET_KB, lines, seen
    )
    back = Figure("memory after they closed", "of the start", after / before, BACK_WITHIN, [])
    left = seen["descriptors"][2] - seen["descriptors"][0] + seen["sessions"][2]
    return [cost, back, Figure("left behind", "descriptors and sessions", left, 0, [])]
