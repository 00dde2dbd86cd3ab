"""`python -m tests.rehearsal`: a rolling deployment under live sessions, on one machine.

Pairs of gate and application, each in a network namespace of its own, behind HAProxy; one pair after the
other is replaced. Exits 1 when an acknowledged message is lost, a client is away for longer than the drain's
window, a pair gets more than its share and a quarter, or something ends otherwise than it should. Details go
to rehearsal-results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import uvloop

from tests.backends import launch
from tests.chaos.drain import BUCKET_S
from tests.rehearsal import network
from tests.rehearsal.rollout import BOTH, GATE_FIRST, Plan, Rehearsal
from tests.rehearsal.verdict import SHARE_AND

BOUND_S = 240.0
SHOWN = 20
INSIDE = "--inside-namespaces"  # how the run tells itself that it is


def main() -> int:
    options = parser().parse_args()
    plan = Plan(
        pairs=options.pairs or (2 if options.quick else 4),
        sessions=options.sessions or (200 if options.quick else 2000),
        spread_s=options.spread if options.spread is not None else (1.0 if options.quick else 4.0),
        pause_s=options.pause,
        every_s=options.every,
        balance=options.balance,
        order=options.order,
        surge=options.surge,
        app_waits_s=options.app_waits,
        slack_s=options.slack,
        seed=options.seed or str(random.SystemRandom().randrange(10**6)),
    )
    try:
        launch.installed("haproxy")
    except launch.MissingToolError as error:
        print(f"rehearsal: {error} (Debian: apt install haproxy)", file=sys.stderr)
        return 2
    if options.inside:
        return rehearse(plan, network.namespace, "network namespaces")
    if options.loopback:
        return rehearse(plan, network.loopback, "addresses of loopback")
    try:
        return network.started_anew([sys.executable, "-m", "tests.rehearsal", *sys.argv[1:], INSIDE])
    except launch.MissingToolError as error:
        print(f"rehearsal: {error}: all on one network, an address of loopback for each pair", flush=True)
        return rehearse(plan, network.loopback, "addresses of loopback")


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    described = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    described.add_argument("--quick", action="store_true", help="2 pairs, 200 sessions, a drain of 1 s")
    described.add_argument("--pairs", type=int, default=0)
    described.add_argument("--sessions", type=int, default=0)
    described.add_argument(
        "--spread", type=float, default=None, help="drain.spread_s (default: production's 4)"
    )
    described.add_argument(
        "--pause", type=float, default=1.0, help="seconds a client waits at most to come back"
    )
    described.add_argument(
        "--every", type=float, default=5.0, help="seconds between two messages of a client"
    )
    described.add_argument("--balance", choices=("leastconn", "roundrobin", "random"), default="leastconn")
    described.add_argument(
        "--order",
        choices=(GATE_FIRST, BOTH),
        default=GATE_FIRST,
        help="who gets SIGTERM: the gate, or both at once",
    )
    described.add_argument(
        "--app-waits", type=float, default=0.0, help="seconds until the application hears of its SIGTERM"
    )
    described.add_argument(
        "--no-surge", dest="surge", action="store_false", help="stop a pair, then start another"
    )
    described.add_argument(
        "--slack", type=float, default=1.0, help="seconds that a way back may take beyond window and pause"
    )
    described.add_argument("--loopback", action="store_true", help="no network namespaces")
    described.add_argument("--seed", default="", help="default: a new one")
    described.add_argument(INSIDE, dest="inside", action="store_true", help=argparse.SUPPRESS)
    return described


def rehearse(plan: Plan, place: Callable[[int], network.Place], where: str) -> int:
    """Do it, print and write what was seen; return the exit code."""
    launch.may_open()
    print(
        f"{plan.pairs} pairs in {where}, {plan.sessions} sessions, {plan.balance}, {plan.order}, "
        f"{'surge of one' if plan.surge else 'no surge'}, seed {plan.seed}",
        flush=True,
    )
    seen, began_s = Rehearsal(plan), time.monotonic()
    uvloop.run(bounded(seen, place))
    wrong = seen.wrong()
    for line in [*lines(seen), *(f"WRONG: {what}" for what in wrong[:SHOWN])]:
        print(line)
    if len(wrong) > SHOWN:
        print(f"WRONG: {len(wrong) - SHOWN} more")
    path = write(seen, wrong)
    print(f"{time.monotonic() - began_s:.0f} s, details in {path}", flush=True)
    return int(bool(wrong))


async def bounded(seen: Rehearsal, place: Callable[[int], network.Place]) -> None:
    """Go through it; what is not over in time, or breaks, is a failure to be told."""
    try:
        async with asyncio.timeout(BOUND_S):
            await seen.through(place)
    except TimeoutError:
        seen.trouble.append(f"it was not over within {BOUND_S:.0f} s")
    except RuntimeError as error:
        seen.trouble.append(str(error))


def lines(seen: Rehearsal) -> list[str]:
    """Return the figures in words."""
    messages, peak = seen.messages, seen.peak
    told = []
    for roll, away in zip(seen.rolls, seen.aways, strict=True):
        codes = ", ".join(f"{count} with {code}" for code, count in sorted(away.codes.items()))
        told += [
            f"{roll.old} -> {roll.new}: held {roll.held}, closed {codes or 'none'}, at most "
            f"{away.fullest:.1%} within {BUCKET_S * 1000:.0f} ms; "
            f"gate: exit code {roll.ended.gate_code} after {roll.ended.took_s:.2f} s, "
            f"{roll.ended.hurried} hurried",
            f"  away            {away.away}",
            f"  without pauses  {away.cost}",
            f"  after SIGTERM   {away.back}",
        ]
    ends = [roll.ended for roll in seen.rolls] + seen.last
    logs = sum((Counter(ended.app_log) for ended in ends), Counter())
    return [
        *told,
        f"messages          said {messages.said}, said again {messages.repeated}, acknowledged "
        f"{messages.acknowledged}, recorded {messages.recorded}, lost {len(messages.lost)}, recorded twice "
        f"{messages.twice}",
        f"largest share     {peak.ratio:.3f} ({peak.pair}: {peak.sessions} sessions, share {peak.share:.1f}; "
        f"{SHARE_AND:g} at most), {len(seen.looks)} samples",
        f"front end         {seen.counted}",
        f"refused           {dict(seen.refusals) or 'none'}",
        f"applications' log {dict(logs)}",
        f"memory of gates   {', '.join(f'{ended.gate_kb / 1024:.1f}' for ended in ends)} MB at SIGTERM",
    ]


def write(seen: Rehearsal, wrong: list[str]) -> Path:
    """Write what was seen; return where."""
    results = Path("rehearsal-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("rehearsal-%Y%m%d-%H%M%S.json")
    record = {
        "plan": asdict(seen.plan),
        "wrong": wrong,
        "messages": asdict(seen.messages),
        "peak": asdict(seen.peak),
        "rolls": [asdict(roll) for roll in seen.rolls],
        "aways": [asdict(away) for away in seen.aways],
        "last": [asdict(ended) for ended in seen.last],
        "front_end": seen.counted,
        "refusals": seen.refusals,
        "looks": [[round(look.at_s, 2), look.sessions, sorted(look.in_service)] for look in seen.looks],
    }
    path.write_text(json.dumps(record))
    return path


if __name__ == "__main__":
    sys.exit(main())
