"""Workloads of coming and going: handshakes one by one, a storm of them at once, memory of the idle."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.backends import front
from tests.bench import backend, peers, process, visit, web
from tests.bench.result import DIRECT, GATE, Reading, Result, interleave, p50_p99
from tests.bench.stand import Plan, Stand, Start, stand

LOGGING, TRACING = "gate + log", "gate + spans"
VISITORS = 32
AT_ONCE = 100
WARM_UP = 30  # the gate watches the first 20 of a route for longer
WARM_UP_IDLE = 200
EXPORT_MS = "200"
SETTLE_S = 0.5  # longer than sessions take to depart, and than spans wait for their export
GIVE_BACK_S = 4.0  # the gate returns memory some seconds after a wave of sessions
BOUND_S = 120.0


async def warm_up(running: Stand) -> None:
    """Let every way serve a few, so that what is made on first use is there."""
    for way in running.ways:
        await visit.leave_all(await visit.come_many(running.address(way), WARM_UP, 10))


async def handshakes(plan: Plan) -> Result:
    """Visitors come, have one message echoed, and go, as fast as they can. The gate in three ways."""
    result = Result("handshakes", "open, one echo of 64 B, close", "handshake", "cpu_us")
    with web.start() as collector:
        starts = proxies(plan)
        if GATE in starts:
            telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": EXPORT_MS}
            starts |= {
                LOGGING: partial(front.gate, env=peers.build()),
                TRACING: partial(peers.gate, **telemetry),
            }
        with stand(backend.start, starts) as running:
            await warm_up(running)

            async def turn(way: str) -> Reading:
                return await busy(running, way, plan.seconds)

            ways = [way for way in running.ways if way in starts or way in plan.ways]
            await interleave(result, ways, plan.rounds, turn, BOUND_S)
        if TRACING in starts:
            sent = await web.received((collector.host, collector.port))
            result.notes.append(f"`{TRACING}` sent {sent / 1e6:.1f} MB of OTLP to a collector")
            if not sent:
                result.failed[TRACING] = "nothing arrived at the collector"
    return result


def proxies(plan: Plan) -> dict[str, Start]:
    return {way: peers.START[way] for way in plan.ways if way != DIRECT}


async def busy(running: Stand, way: str, seconds: float) -> Reading:
    """Keep visitors coming for a while; those that have begun by then are served and counted."""
    address, took_us = running.address(way), []
    meter = running.meter(way)

    async def visitor() -> None:
        while meter.took_s() < seconds:
            began = time.perf_counter()
            await visit.come_and_go(address)
            took_us.append((time.perf_counter() - began) * 1e6)

    async with asyncio.TaskGroup() as group:
        for _ in range(VISITORS):
            group.create_task(visitor())
    within_s = meter.took_s()
    await asyncio.sleep(SETTLE_S)
    p50, p99 = p50_p99(took_us)
    return meter.reading(len(took_us), within_s) | {"p50_us": p50, "p99_us": p99}


async def storm(plan: Plan) -> Result:
    """Everybody comes in the same instant, is served, and stays until all are."""
    count = plan.connections(2000, 200)
    result = Result("storm-2000", f"{count} clients come back at once", "connection", "served_ms")
    with stand(backend.start, proxies(plan)) as running:
        await warm_up(running)

        async def turn(way: str) -> Reading:
            return await stormed(running, way, count)

        await interleave(result, list(plan.ways), min(plan.rounds, 3), turn, BOUND_S)
    return result


async def stormed(running: Stand, way: str, count: int) -> Reading:
    """Return the time until the last of them was served, how many were not, and the CPU of it."""
    meter, address = running.meter(way), running.address(way)
    came = await asyncio.gather(
        *(visit.come(address, stay=True) for _ in range(count)), return_exceptions=True
    )
    within_s = meter.took_s()
    visits = [one for one in came if isinstance(one, visit.Visit)]
    reading = meter.reading(len(visits), within_s)
    await visit.leave_all(visits)
    await asyncio.sleep(SETTLE_S)
    return {"served_ms": within_s * 1000, "failed": float(count - len(visits))} | reading


async def idle_memory(plan: Plan) -> Result:
    """Open many connections through one proxy at a time, and see how its resident memory grows."""
    count = plan.connections(5000, 300)
    result = Result("idle-memory", f"{count} idle connections", "connection", "rss_kb")

    async def turn(way: str) -> Reading:
        with stand(backend.start, {way: peers.START[way]}) as running:
            return await filled(running, way, count, SETTLE_S if plan.quick else GIVE_BACK_S)

    await interleave(result, [way for way in plan.ways if way != DIRECT], 1, turn, BOUND_S)
    return result


async def filled(running: Stand, way: str, count: int, give_back_s: float) -> Reading:
    """Return KB resident per connection, and what the process had before, with, and after all of them.

    `kept_files`: descriptors that it did not give back.
    """
    pid, address = running.proxies[way].pid, running.address(way)
    await visit.leave_all(await visit.come_many(address, WARM_UP_IDLE, AT_ONCE))
    await asyncio.sleep(2 * SETTLE_S)
    before, files = process.memory_kb(pid)[0], process.descriptors(pid)
    visits = await visit.come_many(address, count, AT_ONCE)
    await asyncio.sleep(2 * SETTLE_S)
    during = process.memory_kb(pid)[0]
    if any(one.gone.done() for one in visits):
        raise ConnectionError("connections ended while they were idle")
    await visit.leave_all(visits)
    await asyncio.sleep(give_back_s)
    kept = process.descriptors(pid) - files
    return {
        "rss_kb": (during - before) / count,
        "before_kb": float(before),
        "with_kb": float(during),
        "after_kb": float(process.memory_kb(pid)[0]),
        "kept_files": float(max(kept, 0)),
    }
