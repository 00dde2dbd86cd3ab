"""Time to open and time to first reply on a healthy local uvicorn: direct, gate, gate with fixed delays.

Nothing is pinned here: this is what a user of an ordinary machine waits for. The gate logs, as it does.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from tests.backends import front, launch, wire
from tests.bench import peers
from tests.bench.result import DIRECT, GATE, Reading, Result, p50_p99
from tests.bench.stand import Plan

CLASSIC = "classic"
REPLY = ", first reply"
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


async def in_turn(ways: dict[str, tuple[str, int]], times: int) -> dict[str, list[Sample]]:
    """One connection at a time, each way in turn, so that all of them see the same machine."""
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for turn in range(WARM_UP + times):
        for name, address in ways.items():
            sample = await one(address)
            if turn >= WARM_UP:
                samples[name].append(sample)
    return samples


async def opening(plan: Plan) -> Result:
    """Run it, the gate with the policies `production` and `classic`. Times are p50 and p99."""
    times = plan.size(300, 30)
    title = f"healthy uvicorn, {times} connects one after the other; policy production and classic"
    result = Result("opening", title, "connection", "reply_ms")
    with ExitStack() as stack:
        backend = stack.enter_context(launch.uvicorn("websockets-sansio"))
        ways = {DIRECT: backend}
        ways[GATE] = stack.enter_context(front.gate(backend.url, "production", env=peers.build()))
        ways[CLASSIC] = stack.enter_context(front.gate(backend.url, "classic", env=peers.build()))
        taken = await in_turn({name: (way.host, way.port) for name, way in ways.items()}, times)
    result.rounds.append({name: reading(samples) for name, samples in taken.items()})
    for name, samples in taken.items():
        opens, replies = zip(*samples, strict=True)
        result.samples |= {name: list(opens), f"{name}{REPLY}": list(replies)}
    for name in (GATE, CLASSIC):
        above = [statistics.median(result.above_direct(name, figure)) for figure in ("open_ms", "reply_ms")]
        result.notes.append(
            f"{name}: {above[0]:.2f} ms above direct to the 101, {above[1]:.2f} ms to the reply"
        )
    return result


def reading(samples: list[Sample]) -> Reading:
    opens, replies = (p50_p99(column) for column in zip(*samples, strict=True))
    return {"open_ms": opens[0], "open_p99_ms": opens[1], "reply_ms": replies[0], "reply_p99_ms": replies[1]}
