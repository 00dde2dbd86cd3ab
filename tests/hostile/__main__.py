"""`python -m tests.hostile`: 100 honest sessions, alone and among 10,000 hostile connections over 60 s.

Exits 1 when one of the honest is lost or slower than three times its p99, when the backend gets anything that
is ambiguous, or when the gate keeps or takes too much. Details go to hostile-results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path

import uvloop

from tests.backends import launch
from tests.hostile.siege import Siege

SPARE_S = 150.0
SHOWN = 6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds of quiet, half before, half after")
    parser.add_argument("--seed", default="", help="default: a new one")
    options = parser.parse_args()
    launch.may_open()
    seed = options.seed or str(random.SystemRandom().randrange(10**6))
    siege = Siege(options.connections, options.seconds, options.sessions, options.quiet, seed)
    print(f"{siege.connections} hostile connections in {siege.seconds:.0f} s, seed {seed}", flush=True)
    began_s = time.monotonic()
    uvloop.run(bounded(siege))
    return int(report(siege, time.monotonic() - began_s))


async def bounded(siege: Siege) -> None:
    """Go through it; what is not over in time is a failure, not a hang."""
    try:
        async with asyncio.timeout(siege.quiet_s + siege.seconds * 2 + SPARE_S):
            await siege.through()
    except TimeoutError:
        siege.wrong.append("it was not over in time")


def report(siege: Siege, took_s: float) -> bool:
    """Print and write the verdict; return whether anything is wrong."""
    print(*lines(siege), sep="\n")
    results = Path("hostile-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("hostile-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps({"took_s": round(took_s, 1)} | siege.record(), indent=1))
    if siege.wrong:
        path.with_suffix(".gate.log").write_text(siege.gate_log)
    print(f"{took_s:.0f} s, details in {path}", flush=True)
    return bool(siege.wrong)


def lines(siege: Siege) -> list[str]:
    """Return the figures and what is wrong, in words."""
    told = [f"{'kind':<18}{'count':>6}  answered"]
    for name, ends in siege.ends.items():
        most = sorted(ends.items(), key=lambda end: -end[1])
        shown = "; ".join(f"{end} x{count}" for end, count in most[:SHOWN])
        told.append(f"{name:<18}{sum(ends.values()):>6}  {shown}{'; ...' if len(most) > SHOWN else ''}")
    for name, phase in siege.phases.items():
        told.append(
            f"honest, {name:<17}{phase.echoes} echoes, p50 {phase.p50_ms:.2f} ms, p99 {phase.p99_ms:.2f} ms, "
            f"worst {phase.worst_ms:.1f} ms"
        )
    if len(siege.phases) == 4:
        direct = siege.phases["direct, attacked"].p99_ms / siege.phases["direct, quiet"].p99_ms
        told.append(
            f"honest, p99          {siege.ratio:.2f} times the quiet one; directly {direct:.2f} times; "
            f"{len(siege.lost)} sessions lost"
        )
    for name, reading in siege.readings.items():
        held = f"{reading.sessions} sessions, {reading.descriptors} descriptors, {reading.tasks} tasks"
        told.append(f"gate, {name:<15}{held}, {reading.rss_kb} KB resident")
    told.append(f"gate, at most        {siege.peak_descriptors} descriptors, {siege.peak_kb} KB resident")
    told.append(f"gate, attacked       {siege.cpu_s:.1f} s of CPU, waited {siege.waited_s:.1f} s for a core")
    told.append(f"backend              {siege.backend}")
    told += [f"WRONG: {what}" for what in siege.wrong[:20]]
    return told if siege.wrong else [*told, "no honest session noticed more than that"]


if __name__ == "__main__":
    sys.exit(main())
