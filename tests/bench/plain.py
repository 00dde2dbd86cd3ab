"""Workloads of plain HTTP, which every proxy passes through: small requests, bodies of 100 MB each way."""

from __future__ import annotations

import asyncio
import time

from tests.bench import peers, web
from tests.bench.crowd import WARM_UP_SHARE
from tests.bench.result import DIRECT, Reading, Result, interleave, p50_p99
from tests.bench.stand import Plan, Stand, stand

CALLERS = 64
SMALL_BYTES = 128
MB = 1_000_000
BOUND_S = 60.0


async def small(plan: Plan) -> Result:
    """Small GETs on connections that are kept."""
    title = f"GET of {SMALL_BYTES} bytes, {CALLERS} connections"
    result = Result("http-small", title, "request", "cpu_us")
    with stand(web.start, {way: peers.START[way] for way in plan.ways if way != DIRECT}) as running:

        async def turn(way: str) -> Reading:
            return await asked(running, way, plan.seconds)

        await interleave(result, list(plan.ways), plan.rounds, turn, BOUND_S)
    return result


async def asked(running: Stand, way: str, seconds: float) -> Reading:
    """Keep all callers busy; return what a request costs."""
    callers = [await web.caller(running.address(way)) for _ in range(CALLERS)]
    took_us: list[float] = []
    going = True

    async def ask(caller: web.Caller) -> None:
        while going:
            began = time.perf_counter()
            await caller.call("GET", f"/{SMALL_BYTES}")
            took_us.append((time.perf_counter() - began) * 1e6)

    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(ask(caller))
        await asyncio.sleep(seconds * WARM_UP_SHARE)
        took_us.clear()
        meter = running.meter(way)
        await asyncio.sleep(seconds)
        reading = meter.reading(len(took_us))
        p50, p99 = p50_p99(took_us)
        going = False
    for caller in callers:
        caller.transport.abort()
    return reading | {"p50_us": p50, "p99_us": p99}


async def down(plan: Plan) -> Result:
    """One large GET at a time."""
    return await large(plan, "http-down", "GET", "download")


async def up(plan: Plan) -> Result:
    """One large POST at a time."""
    return await large(plan, "http-up", "POST", "upload")


async def large(plan: Plan, name: str, method: str, word: str) -> Result:
    megabytes = plan.size(100, 20)
    result = Result(name, f"{word} of {megabytes} MB", "MB", "cpu_us")
    with stand(web.start, {way: peers.START[way] for way in plan.ways if way != DIRECT}) as running:

        async def turn(way: str) -> Reading:
            caller = await web.caller(running.address(way))
            meter = running.meter(way)
            if method == "GET":
                await caller.call(method, f"/{megabytes * MB}")
            else:
                await caller.call(method, "/", megabytes * MB)
            reading = meter.reading(megabytes)
            caller.transport.abort()
            return reading

        await interleave(result, list(plan.ways), plan.rounds, turn, BOUND_S)
    return result
