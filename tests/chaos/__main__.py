"""`python -m tests.chaos`: live sessions through every fault, exact accounts after it, then a drain of 2,000.

Exits 1 for any message that is not accounted for, any end that may not be, and anything that the gate keeps.
Details go to chaos-results/. The seed decides who is hit; the scheduler still has its say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop

from tests.backends import launch
from tests.chaos import drain
from tests.chaos.phases import PHASES
from tests.chaos.run import Run, Verdict
from tests.chaos.stand import POLICY

FAULTS_S = 88.0  # what the faults take themselves
BOUND_S = 220.0
SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument(
        "--seconds", type=float, default=133.0, help=f"of the phases, {FAULTS_S:.0f} at least"
    )
    parser.add_argument("--seed", default="", help="default: a new one")
    parser.add_argument(
        "--phase", action="append", choices=PHASES, help="may be repeated; default: all, and drain"
    )
    parser.add_argument("--policy", default=POLICY, help="a policy file instead of the chaos's own")
    options = parser.parse_args()
    launch.may_open()
    names = options.phase or list(PHASES)
    talk_s = max(options.seconds - FAULTS_S, len(PHASES)) / len(PHASES)
    run = Run(options.sessions, talk_s, options.seed or str(random.SystemRandom().randrange(10**6)), names)
    print(
        f"chaos: {run.sessions} sessions, seed {run.seed}, {run.talk_s:.1f} s of talk after each fault",
        flush=True,
    )
    began_s = time.monotonic()
    uvloop.run(bounded(run, options.policy))
    failed = report(run, time.monotonic() - began_s)
    if not options.phase:
        failed |= drain.run(drain.SESSIONS)
    return int(failed)


async def bounded(run: Run, policy: str) -> None:
    """Go through it; what is not over in time is a failure, not a hang."""
    try:
        async with asyncio.timeout(BOUND_S):
            await run.through(policy)
    except TimeoutError:
        run.verdict.wrong.append(("chaos", f"was not over within {BOUND_S:.0f} s"))


def report(run: Run, took_s: float) -> bool:
    """Print and write the verdict; return whether anything is wrong."""
    verdict = run.verdict
    for line in lines(verdict):
        print(line)
    results = Path("chaos-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("chaos-%Y%m%d-%H%M%S.json")
    told = {"seed": run.seed, "sessions": run.sessions, "took_s": round(took_s, 1)} | verdict.record()
    path.write_text(json.dumps(told, indent=1))
    if verdict.wrong:
        path.with_suffix(".gate.log").write_text(verdict.gate_log)
        path.with_suffix(".backend.log").write_text(verdict.backend_text)
    print(f"{took_s:.0f} s, details in {path}", flush=True)
    return bool(verdict.wrong)


def lines(verdict: Verdict) -> list[str]:
    """Return the figures and what is wrong, in words."""
    sums = verdict.totals
    told = [
        "",
        f"connections      {sums.connections}, the backend accepted {sums.visits}, left properly {sums.left}",
        f"messages         sent {sums.sent}, journalled {sums.arrived}, acknowledged {sums.acknowledged}",
        f"pushes           journalled {sums.pushed}, heard {sums.heard}, "
        f"acknowledged {sums.pushes_acknowledged}",
        f"backend's log    {verdict.backend_log}",
    ]
    for name, reading in zip(("fresh", "after a warm-up", "after it all"), verdict.readings, strict=False):
        tasks = "not told" if reading.tasks is None else reading.tasks
        held = f"{reading.sessions} sessions, {reading.descriptors} descriptors, tasks {tasks}"
        told.append(f"{name:<17}{held}, {reading.rss_kb} KB resident")
    for where, count in Counter(where for where, _ in verdict.wrong).items():
        told.append(f"WRONG: {where}: {count}")
        told += [f"  {what[:300]}" for place, what in verdict.wrong if place == where][:SHOWN]
    return told if verdict.wrong else [*told, "every message is accounted for, nothing is left behind"]


if __name__ == "__main__":
    sys.exit(main())
