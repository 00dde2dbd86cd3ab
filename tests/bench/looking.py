"""What an open live page costs the gate, with many sessions open and visitors coming and going."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.backends import launch, wire
from tests.bench import backend, peers, visit
from tests.bench.coming import BOUND_S, SETTLE_S, warm_up
from tests.bench.result import GATE, Reading, Result, interleave
from tests.bench.stand import Plan, Stand, stand

PAGES = {"nobody looks": 0, "1 page open": 1, "3 pages open": 3}
SESSIONS, EVERY_S, SECONDS = 1000, 0.05, 4
STREAM = b"GET /page/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


async def looking(plan: Plan) -> Result:
    """Run it: one gate, whose page is open in no, in one or in three browsers."""
    count = plan.connections(SESSIONS, 100)
    seconds = plan.seconds * SECONDS
    title = f"{count:,} sessions open, 20 visitors a second; with the live page open or not"
    result = Result("telemetry-page", title, "second", "cpu_us")
    with stand(backend.start, {GATE: peers.START[GATE]}) as running:
        await warm_up(running)
        gate = running.proxies[GATE]
        running.proxies |= dict.fromkeys(PAGES, gate)
        visits = await visit.come_many(running.address(GATE), count, 100)
        await asyncio.sleep(2 * SETTLE_S)

        async def turn(way: str) -> Reading:
            async with pages(gate, PAGES[way]):
                return await watched(running, way, seconds)

        await interleave(result, list(PAGES), plan.rounds, turn, BOUND_S)
        if any(one.gone.done() for one in visits):
            result.failed[GATE] = "sessions ended while the page was open"
        for one in visits:
            one.transport.abort()
    notes(result)
    return result


@contextlib.asynccontextmanager
async def pages(gate: launch.Server, count: int) -> AsyncIterator[None]:
    """Read the page's stream as browsers do, as many as are wanted; the first of it is not counted."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            client = await stack.enter_async_context(
                await wire.Wire.dial((gate.host, gate.admin_port), STREAM)
            )
            assert (await client.head()).status == 200
        await asyncio.sleep(SETTLE_S)
        yield


async def watched(running: Stand, way: str, seconds: float) -> Reading:
    """Let visitors come at a steady pace, and count the CPU of a second."""
    address, meter = running.address(way), running.meter(way)
    async with asyncio.TaskGroup() as group:
        while meter.took_s() < seconds:
            group.create_task(visit.come_and_go(address))
            await asyncio.sleep(EVERY_S)
    return meter.reading(meter.took_s())


def notes(result: Result) -> None:
    """Say what each way costs above a page that nobody looks at."""
    nobody, *others = PAGES
    for way in others:
        above = [
            taken[way]["cpu_us"] - taken[nobody]["cpu_us"]
            for taken in result.rounds
            if {way, nobody} <= set(taken)
        ]
        if above:
            above.sort()
            result.notes.append(f"{way}: {above[len(above) // 2] / 1000:.1f} ms of CPU a second more")
