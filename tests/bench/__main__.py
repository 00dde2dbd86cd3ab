"""`python -m tests.bench`: the gate beside other proxies, in one run: CPU, throughput, latency, memory.

Prints a table for each workload and for the targets, and writes them, all raw numbers (JSON) and plots to
bench-results/. Exits 1 when something could not be measured; a target that is missed is told, not an error.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import uvloop

from tests.backends import launch
from tests.bench import coming, looking, opening, peers, plain, plots, relaying, starting, telling, tokens
from tests.bench.report import Report, commit, loads, machine, markdown, workload_table
from tests.bench.result import Result, told
from tests.bench.stand import Plan

WORKLOADS: dict[str, Callable[[Plan], Awaitable[Result]]] = {
    **{name: partial(relaying.measure, name) for name in relaying.RELAYING},
    "handshakes": coming.handshakes,
    "storm-2000": coming.storm,
    "idle-memory": coming.idle_memory,
    "http-small": plain.small,
    "http-down": plain.down,
    "http-up": plain.up,
    "opening": opening.opening,
    "tokens": tokens.tokens,
    "telemetry": telling.telemetry,
    "start": starting.starting,
    "telemetry-faults": telling.faults,
    "telemetry-page": looking.looking,
}
BOUND_S = 400.0
QUICK = {"rounds": 1, "seconds": 0.2}


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, epilog="workloads: " + ", ".join(WORKLOADS)
    )
    parser.add_argument(
        "--only",
        nargs="+",
        action="extend",
        choices=WORKLOADS,
        metavar="NAME",
        help="workloads",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        action="extend",
        choices=peers.PEERS,
        metavar="NAME",
        help=f"of {', '.join(peers.PEERS)}; default: all that are installed",
    )
    parser.add_argument("--rounds", type=int, help="of each workload (default: 5)")
    parser.add_argument("--seconds", type=float, help="of one turn of one peer (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a minute or two")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="DIR")
    parser.add_argument("--show", type=Path, metavar="JSON", help="only show an earlier run again")
    return parser.parse_args(words)


def plan(chosen: argparse.Namespace, ways: Sequence[str], files: int) -> Plan:
    """Turn options into what is to be measured."""
    told = {
        name: getattr(chosen, name) for name in ("rounds", "seconds") if getattr(chosen, name) is not None
    }
    return Plan(tuple(ways), **(QUICK if chosen.quick else {}) | told, quick=chosen.quick, files=files)


def begin(chosen: argparse.Namespace) -> tuple[Plan, Report]:
    """Find out what there is to measure with."""
    wanted = [way for way in peers.PEERS if not chosen.peers or way in chosen.peers]
    missing = {way: why for way in wanted if (why := peers.missing(way))}
    planned = plan(chosen, [way for way in wanted if way not in missing], launch.may_open())
    versions = {way: peers.version(way) for way in planned.ways if way in peers.START}
    date = time.strftime("%Y-%m-%d %H:%M:%S")
    return planned, Report(date, commit(), machine(), versions, asdict(planned), missing)


def measure(name: str, planned: Plan, report: Report) -> None:
    """Run one workload; what goes wrong is part of the report."""
    began = time.monotonic()
    try:
        result = uvloop.run(bounded(WORKLOADS[name](planned)))
    except Exception as error:
        report.broken[name] = told(error)
        print(f"FAILED {name}: {report.broken[name]}\n", flush=True)
        return
    report.results.append(result)
    print(f"{workload_table(result)}\n({time.monotonic() - began:.0f} s)\n", flush=True)


async def bounded(work: Awaitable[Result]) -> Result:
    async with asyncio.timeout(BOUND_S):
        return await work


def write(report: Report, folder: Path) -> None:
    """Write JSON, text and plots, and print the text."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / time.strftime("bench-%Y%m%d-%H%M%S", time.strptime(report.date, "%Y-%m-%d %H:%M:%S"))
    text = markdown(report)
    stem.with_suffix(".json").write_text(report.dumps())
    stem.with_suffix(".md").write_text(text)
    paths, note = plots.draw(report, stem)
    print(text)
    print(note or f"plots: {', '.join(map(str, paths)) or 'none'}")
    print(f"all numbers: {stem.with_suffix('.json')}")


def main() -> int:
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what we started is ended
    if chosen.show:
        report = loads(chosen.show.read_text())
    else:
        gc.set_threshold(100_000, 50, 100)  # collections of thousands of connections would show in latencies
        planned, report = begin(chosen)
        began = time.monotonic()
        print(f"{', '.join(planned.ways)}: {planned.rounds} rounds of {planned.seconds:g} s each", flush=True)
        for way, why in report.missing.items():
            print(f"{way} is left out: {why}", flush=True)
        for name in WORKLOADS:
            if not chosen.only or name in chosen.only:
                measure(name, planned, report)
        print(f"took {(time.monotonic() - began) / 60:.1f} min\n", flush=True)
    write(report, chosen.out)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
