"""Time to open and time to first reply on a healthy local uvicorn: direct, gate, gate with fixed delays."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

import uvloop

from tests.backends import front, launch, wire
from tests.bench.figure import Figure

TARGET_MS = 3.0
WARM_UP = 50
Sample = tuple[float, float]


async def one(address: tuple[str, int]) -> Sample:
    """Open, speak first, hear the reply, leave. Returns ms from dialling to the 101 and to the reply."""
    client = await wire.opened(address, "/ws/echo")
    client.send(wire.text("hello"))
    await client.message()
    replied_s = time.perf_counter() - client.dialled_at
    await client.leave()
    return client.open_s * 1000, replied_s * 1000


async def rounds(ways: dict[str, tuple[str, int]], times: int) -> dict[str, list[Sample]]:
    """One connection at a time, each way in turn, so that all of them see the same machine."""
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for turn in range(WARM_UP + times):
        for name, address in ways.items():
            sample = await one(address)
            if turn >= WARM_UP:
                samples[name].append(sample)
    return samples


def measure(times: int) -> Figure:
    """Run it. The figure is the gate's p50 above direct, the worse of opening and first reply."""
    with ExitStack() as stack:
        backend = stack.enter_context(launch.uvicorn("websockets-sansio"))
        ways = {"direct": backend}
        ways["gate"] = stack.enter_context(front.gate(backend.url, "production"))
        ways["classic"] = stack.enter_context(front.gate(backend.url, "classic"))
        samples = uvloop.run(rounds({name: (way.host, way.port) for name, way in ways.items()}, times))
    lines, p50s = [], {}
    for name, taken in samples.items():
        opens, replies = zip(*taken, strict=True)
        p50s[name] = (statistics.median(opens), statistics.median(replies))
        lines.append(f"{name:<8} open {spread(opens)}   first reply {spread(replies)}")
    for name in ("gate", "classic"):
        above = [mine - direct for mine, direct in zip(p50s[name], p50s["direct"], strict=True)]
        lines.append(f"{name:<8} p50 above direct: open {above[0]:+.2f} ms, first reply {above[1]:+.2f} ms")
    worst = max(mine - direct for mine, direct in zip(p50s["gate"], p50s["direct"], strict=True))
    title = f"healthy uvicorn echo, {times} sequential connects each"
    return Figure(title, "ms above direct at p50", worst, TARGET_MS, lines, {"samples_ms": samples})


def spread(values: tuple[float, ...]) -> str:
    p99 = statistics.quantiles(values, n=100, method="inclusive")[98]
    return f"p50 {statistics.median(values):7.2f} p99 {p99:7.2f} ms"
