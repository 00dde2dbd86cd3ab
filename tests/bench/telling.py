"""What telemetry costs: CPU per handshake by how much is told, and with a collector that is in trouble."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from tests.backends import front, launch
from tests.backends.launch import Server
from tests.bench import backend, peers, process, visit, web
from tests.bench.coming import SETTLE_S, VISITORS, warm_up
from tests.bench.result import GATE, Reading, Result, interleave, p50_p99
from tests.bench.stand import Plan, Stand, Start, stand

UNNOTED = "gate, no page to keep for"
METRICS, SOME, ALL = "gate + metrics", "gate + 1 % of traces", "gate + 100 %"
DOWN, SILENT, REFUSING = "gate, collector down", "gate, collector silent", "gate, collector refuses"
FAULTS = (DOWN, SILENT, REFUSING)
HANDSHAKES, MANY, TURNS = 1000, 5000, 40
BOUND_S = 120.0
STAYING = 20  # sessions that are open when a gate is told to stop
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
# So that what is exported later as a rule is exported within the turn that it belongs to.
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "5000", "OTEL_BSP_SCHEDULE_DELAY": "200"}
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def telemetry(plan: Plan) -> Result:
    """Visitors come and go through gates that differ in how much they tell."""
    result = Result("telemetry", title(count := plan.size(HANDSHAKES, 100)), "handshake", "cpu_us")
    with web.start() as collector:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | OFTEN
        starts = {
            GATE: peers.START[GATE],
            UNNOTED: unnoted,
            METRICS: partial(peers.gate, **endpoint, OTEL_TRACES_EXPORTER="none"),
            SOME: partial(peers.gate, **endpoint, **ONE_PERCENT),
            ALL: partial(peers.gate, **endpoint),
        }
        await compare(result, starts, plan.rounds, count)
        if not await web.received((collector.host, collector.port)):
            result.failed[ALL] = "nothing arrived at the collector"
    return result


def unnoted(upstream: str) -> Server:
    """Start a gate that keeps nothing of its handshakes for the live page."""
    program = [sys.executable, "-m", "tests.bench.unnoted"]
    build = peers.build()
    if build:
        build["PYTHONPATH"] += f":{launch.ROOT}"
    return front.gate(upstream, "production", env=peers.QUIET | build, program=program)


async def faults(plan: Plan) -> Result:
    """Let them come through gates that tell everything to a collector in trouble, then stop the gates.

    Turns are short, so that all ways see the same machine: each has its 5,000 handshakes in forty of them.
    """
    turns = plan.size(TURNS, 1)
    result = Result("telemetry-faults", title(count := plan.size(MANY, 100) // turns), "handshake", "cpu_us")
    async with troubled() as urls:
        starts: dict[str, Start] = {GATE: peers.START[GATE]}
        for way, url in urls.items():
            starts[way] = partial(peers.gate, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        await compare(result, starts, turns, count, ends=True)
    return result


def title(count: int) -> str:
    return f"open, one echo of 64 B, close; {count} handshakes a turn, {VISITORS} at once"


async def compare(
    result: Result, starts: dict[str, Start], rounds: int, count: int, *, ends: bool = False
) -> None:
    """Let the gates take turns, each with so many handshakes. `ends`: see how they stop, too."""
    with stand(backend.start, starts) as running:
        await warm_up(running)
        began = time.monotonic()

        async def turn(way: str) -> Reading:
            return await counted(running, way, count)

        await interleave(result, list(starts), rounds, turn, BOUND_S)
        notes(result, running, time.monotonic() - began)
        for way in starts if ends else ():
            await stopped(result, running, way)


async def stopped(result: Result, running: Stand, way: str) -> None:
    """Tell a gate with open sessions to stop, and note how long it took."""
    await visit.come_many(running.address(way), STAYING, STAYING)
    began = time.monotonic()
    code = await asyncio.to_thread(running.proxies[way].stop)
    if code:
        result.failed[way] = f"exit code {code}"
    result.notes.append(f"`{way}`: stopped in {time.monotonic() - began:.1f} s with {STAYING} sessions open")


@asynccontextmanager
async def troubled() -> AsyncIterator[dict[str, str]]:
    """Run the collectors; yields their URLs by way."""
    async with AsyncExitStack() as stack:
        urls = {DOWN: f"http://127.0.0.1:{launch.free_port()}"}
        for way, answer in ((SILENT, never), (REFUSING, refuse)):
            server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
            urls[way] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield urls


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything, say nothing."""
    while await reader.read(1 << 18):
        pass
    writer.close()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what no client tries again."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = web.LENGTH.search(head)
    await reader.readexactly(int(length[1]) if length else 0)
    writer.write(REFUSAL)
    writer.close()


async def counted(running: Stand, way: str, count: int) -> Reading:
    """Let so many visitors come and go, some at once."""
    address, took_us, left = running.address(way), [], iter(range(count))
    meter = running.meter(way)

    async def visitor() -> None:
        for _ in left:
            began = time.perf_counter()
            await visit.come_and_go(address)
            took_us.append((time.perf_counter() - began) * 1e6)

    async with asyncio.TaskGroup() as group:
        for _ in range(VISITORS):
            group.create_task(visitor())
    within_s = meter.took_s()
    await asyncio.sleep(SETTLE_S)
    p50, p99 = p50_p99(took_us)
    told = {"p50_us": p50, "p99_us": p99, "memory_kb": float(process.memory_kb(running.proxies[way].pid)[0])}
    return meter.reading(count, within_s) | told


def notes(result: Result, running: Stand, took_s: float) -> None:
    """Say how much longer it took with a collector in trouble, what it cost, and what was logged of it."""
    for way in FAULTS:
        longer, costlier = result.ratio(GATE, way, "per_s"), result.ratio(way, GATE)
        if longer and costlier:
            lines = running.proxies[way].log_lines()
            memory_kb = result.values(way, "memory_kb")
            result.notes.append(
                f"`{way}`: {longer:.3f} of the time and {costlier:.3f} of the CPU without telemetry, "
                f"resident {memory_kb[0] / 1024:.1f} MiB after the first turn and {memory_kb[-1] / 1024:.1f} "
                f"after the last, {lines} log lines in {took_s:.0f} s"
            )
