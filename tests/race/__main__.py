"""`python -m tests.race`: every fault family direct, through nginx and through the gate, as a table.

Exits 1 when the gate did not serve every connection of a family, or the backend logged an error in a family
that must stay quiet. Details go to race-results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from tests.backends import front, launch
from tests.race.clients import Outcome
from tests.race.families import FAMILIES, Family, Run

VIAS = ("direct", "nginx", "gate")
BOUND_S = 60.0
COLUMNS = "{:<40}{:<8}{:>7}{:>8}{:>6}{:>6}{:>9}{:>11}{:>9}{:>9}"
HEADINGS = ("family", "via", "opened", "served", "lost", "twice", "disorder", "log lines", "p50 ms", "p99 ms")


@dataclass
class Row:
    """One family, one way."""

    family: Family
    via: str
    wanted: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    log_lines: int = 0
    trouble: list[str] = field(default_factory=list)
    log_sample: str = ""
    front_log: str = ""

    @property
    def served(self) -> int:
        return sum(outcome.served for outcome in self.outcomes)

    @property
    def good(self) -> bool:
        quiet = not (self.family.quiet_log and self.log_lines)
        return self.served == self.wanted and quiet and not self.trouble

    def line(self) -> str:
        times = sorted(outcome.open_ms for outcome in self.outcomes if outcome.open_ms is not None)
        p50, p99 = (f"{percentile(times, share):.1f}" if times else "-" for share in (50, 99))
        totals = [
            sum(getattr(o, name) for o in self.outcomes) for name in ("lost", "duplicated", "disordered")
        ]
        opened = sum(outcome.opened for outcome in self.outcomes)
        return COLUMNS.format(
            self.family.title, self.via, opened, self.served, *totals, self.log_lines, p50, p99
        )

    def record(self) -> dict:
        whys = Counter(outcome.why or "messages" for outcome in self.outcomes if not outcome.served)
        examples = [asdict(outcome) for outcome in self.outcomes if not outcome.served][:20]
        return {
            "family": self.family.name,
            "via": self.via,
            "connections": self.wanted,
            "served": self.served,
            "line": self.line(),
            "unserved": whys,
            "examples": examples,
            "trouble": self.trouble,
            "backend_log_lines": self.log_lines,
            "backend_log_sample": self.log_sample,
        }


def percentile(ordered: list[float], percent: int) -> float:
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]


def race(family: Family, via: str, connections: int, concurrency: int) -> Row:
    """Run one family one way, over all its servers."""
    row = Row(family, via)
    shares = [connections // len(family.servers)] * len(family.servers)
    shares[0] += connections - sum(shares)
    for server, share in zip(family.servers, shares, strict=True):
        try:
            on_server(row, server, share, concurrency)
        except launch.MissingToolError:
            raise
        except Exception as error:
            row.wanted += share * (not row.wanted)
            row.trouble.append(f"{server}: {type(error).__name__}: {error}"[:2000])
    return row


def on_server(row: Row, server: str, count: int, concurrency: int) -> None:
    with ExitStack() as stack:
        port = launch.free_port()

        def begin() -> launch.Server:
            return stack.enter_context(row.family.start(server, port))

        backend = None if row.family.late else begin()
        between = in_between(row, f"http://127.0.0.1:{port}")
        entry = stack.enter_context(between) if between else None
        address = ("127.0.0.1", entry.port if entry else port)
        run = Run(address, backend, begin, row.via, count, min(concurrency, row.family.at_most))
        row.wanted += count
        row.outcomes += uvloop.run(bounded(row.family, run))
        row.log_lines += run.backend.log_lines()
        row.log_sample = row.log_sample or run.backend.log()[:2000]
        row.front_log += entry.log() if entry else ""
        if entry and entry.process.poll() is not None:
            row.trouble.append(f"{row.via} ended with {entry.process.returncode}: {entry.log()[-2000:]}")


def in_between(row: Row, upstream: str) -> launch.Server | None:
    """Start what stands between the clients and the backend; None for nothing."""
    if row.via == "nginx":
        return front.nginx(upstream)
    return front.gate(upstream, row.family.policy) if row.via == "gate" else None


async def bounded(family: Family, run: Run) -> list[Outcome]:
    async with asyncio.timeout(BOUND_S):
        return await family.clients(run)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="per family and way")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated; default: all")
    parser.add_argument("--via", default=",".join(VIAS))
    options = parser.parse_args()
    launch.may_open()
    began, rows = time.monotonic(), []
    print(COLUMNS.format(*HEADINGS), flush=True)
    for name in options.family or FAMILIES:
        for via in options.via.split(","):
            try:
                row = race(FAMILIES[name], via, options.connections, options.concurrency)
            except launch.MissingToolError as error:
                print(f"{FAMILIES[name].title:<40}{via:<8}skipped: {error}", flush=True)
                continue
            rows.append(row)
            print(row.line(), *row.trouble, flush=True)
    return finish(rows, time.monotonic() - began)


def finish(rows: list[Row], took_s: float) -> int:
    results = Path("race-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("race-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps([row.record() for row in rows], indent=1))
    bad = [row for row in rows if row.via == "gate" and not row.good]
    for row in bad:
        path.with_suffix(f".{row.family.name}.gate.log").write_text(row.front_log)
        print(
            f"FAILED {row.family.title}: gate served {row.served} of {row.wanted}", row.record()["unserved"]
        )
    print(f"{took_s:.0f} s, details in {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
