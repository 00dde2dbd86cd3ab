"""`python -m tests.race`: every fault family direct, through nginx and through the gate, as a table.

Exits 1 when the gate did not serve every connection of a family, when the backend logged anything in a family
that must stay quiet, or when idle sessions did not depart at once. Details go to race-results/.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.backends import front, launch
from tests.race import idle
from tests.race.clients import Outcome
from tests.race.families import FAMILIES
from tests.race.family import Family, Run
from tests.race.proxies import PROXIES
from tests.race.row import COLUMNS, HEADINGS, Row, Share

VIAS = ("direct", "nginx", "gate")
BOUND_S = 60.0
IDLE = "idle"


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
        outcomes = uvloop.run(bounded(row.family, run))
        row.outcomes += outcomes
        row.servers[server] = Share.of(run.backend, outcomes)
        if entry:
            row.front_log += entry.log()
            row.trouble += troubles(entry)


def troubles(entry: launch.Server) -> list[str]:
    """What stood between must neither have ended nor have logged an error of its own."""
    log, found = entry.log(), []
    if entry.process.poll() is not None:
        found.append(f"{entry.name} ended with {entry.process.returncode}: {log[-2000:]}")
    if errors := [line for line in log.splitlines() if '"severity":"ERROR"' in line]:
        found.append(f"{entry.name} logged {len(errors)} errors: {errors[0][:1000]}")
    return found


def in_between(row: Row, upstream: str) -> launch.Server | None:
    """Start what stands between the clients and the backend; None for nothing."""
    if row.via in PROXIES:
        return PROXIES[row.via](upstream)
    return front.gate(upstream, row.family.policy) if row.via == "gate" else None


async def bounded(family: Family, run: Run) -> list[Outcome]:
    async with asyncio.timeout(BOUND_S):
        return await family.clients(run)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="per family and way")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument(
        "--family", action="append", choices=[*FAMILIES, IDLE], help="may be repeated; default: all"
    )
    parser.add_argument(
        "--via", default=",".join(VIAS), help=f"of direct, gate, {', '.join(PROXIES)} ({','.join(VIAS)})"
    )
    options = parser.parse_args()
    if unknown := set(options.via.split(",")) - {"direct", "gate", *PROXIES}:
        parser.error(f"--via: no way is called {', '.join(sorted(unknown))}")
    launch.may_open()
    began, wanted = time.monotonic(), options.family or [*FAMILIES, IDLE]
    vias = options.via.split(",")
    rows = families([name for name in wanted if name != IDLE], vias, options.connections, options.concurrency)
    idling = idle.idle_sessions(options.connections) if IDLE in wanted and "gate" in vias else None
    if idling:
        print(idling.line(), *idling.trouble, flush=True)
    return finish(rows, idling, time.monotonic() - began)


def families(names: list[str], vias: list[str], connections: int, concurrency: int) -> list[Row]:
    """Run these families these ways, and print the table as it comes."""
    rows = []
    if names:
        print(COLUMNS.format(*HEADINGS), flush=True)
    for family, via in itertools.product((FAMILIES[name] for name in names), vias):
        try:
            row = race(family, via, connections, concurrency)
        except launch.MissingToolError as error:
            print(f"{family.title:<40}{via:<17}skipped: {error}", flush=True)
            continue
        rows.append(row)
        print(row.line(), *row.trouble, flush=True)
    return rows


def finish(rows: list[Row], idling: idle.Idle | None, took_s: float) -> int:
    results = Path("race-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("race-%Y%m%d-%H%M%S.json")
    records = [one.record() for one in [*rows, *([idling] if idling else [])]]
    path.write_text(json.dumps(records, indent=1))
    bad = [row for row in rows if row.via == "gate" and not row.good]
    for row in bad:
        path.with_suffix(f".{row.family.name}.gate.log").write_text(row.front_log)
        print(
            f"FAILED {row.family.title}: gate served {row.served} of {row.wanted},",
            f"{row.log_lines} lines in the backends' logs,",
            dict(row.record()["unserved"]),
        )
    if idling and not idling.good:
        print(f"FAILED {idling.line()}")
    print(f"{took_s:.0f} s, details in {path}")
    return 1 if bad or (idling and not idling.good) else 0


if __name__ == "__main__":
    sys.exit(main())
