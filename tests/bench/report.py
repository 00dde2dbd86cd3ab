"""A run as text and as JSON: machine, a table for each workload, the gate against each peer, targets."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.backends.launch import ROOT
from tests.bench.result import DIRECT, GATE, Result, from_record
from tests.bench.stand import OTHERS
from tests.bench.targets import Verdict, verdicts

HEADINGS = {
    "cpu_us": "CPU, us per {unit}",
    "cpu_ms": "CPU, ms per {unit}",
    "started_ms": "listening after, ms",
    "per_s": "per second",
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "proxy_core": "proxy's core busy",
    "load_core": "load's core busy",
    "served_ms": "all served, ms",
    "failed": "not served",
    "rss_kb": "resident KB per {unit}",
    "before_kb": "before, KB",
    "with_kb": "with all, KB",
    "after_kb": "after, KB",
    "memory_kb": "resident, KB",
    "kept_files": "descriptors kept",
    "open_ms": "to the 101, p50 ms",
    "open_p99_ms": "p99 ms",
    "reply_ms": "to the reply, p50 ms",
    "reply_p99_ms": "p99 ms",
}
NOTHING = "-"


@dataclass(slots=True)
class Report:
    """Everything that is known of a run. `missing`: why a peer is not in it."""

    date: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    plan: dict[str, object]
    missing: dict[str, str]
    results: list[Result] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> list[Verdict]:
        return verdicts({result.name: result for result in self.results})

    @property
    def failures(self) -> list[str]:
        """What could not be measured, a line each."""
        ways = [f"{one.name}, {way}: {why}" for one in self.results for way, why in one.failed.items()]
        return [*ways, *(f"{name}: {why}" for name, why in self.broken.items())]

    @property
    def disturbance(self) -> str:
        """What the rest of the machine did meanwhile, in a sentence."""
        busy = [
            reading[OTHERS]
            for one in self.results
            for taken in one.rounds
            for reading in taken.values()
            if OTHERS in reading
        ]
        if not busy:
            return "What else the machine did is not known."
        median, most = statistics.median(busy), max(busy)
        return f"Other processes kept {median:.2f} cores busy (median over turns; at most {most:.2f})."

    def dumps(self) -> str:
        return json.dumps(asdict(self) | {"targets": [asdict(one) for one in self.verdicts]}, indent=1)


def loads(text: str) -> Report:
    """Read what `dumps` wrote; the targets are judged anew."""
    record = json.loads(text)
    record.pop("targets")
    return Report(**record | {"results": [from_record(one) for one in record["results"]]})


def machine() -> dict[str, str]:
    """Return what figures depend on, as far as the system tells."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "CPU": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit that is measured, marked when files differ from it; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def number(value: float | None) -> str:
    """Return three digits or a whole number, whichever is more."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown whose columns are aligned for the eye as well."""
    cells = [list(headings), *map(list, rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(headings))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def workload_table(result: Result) -> str:
    """Return the medians of every way, and the gate divided by it (lowest to highest round)."""
    names = [name for name in result.figures if name in HEADINGS]
    headings = [
        "",
        *(HEADINGS[name].format(unit=result.unit) for name in names),
        f"gate / way, {result.figure}",
    ]
    rows = [
        [way, *(number(result.median(way, name)) for name in names), spread(result, way)]
        for way in result.ways
    ]
    told = [f"### {result.name}: {result.title}", "", table(headings, rows), ""]
    told += [f"- {note}" for note in result.notes]
    told += [f"- FAILED {way}: {why}" for way, why in result.failed.items()]
    return "\n".join(told).rstrip() + "\n"


def spread(result: Result, way: str) -> str:
    ratios = result.ratios(GATE, way) if way != GATE else []
    if not ratios:
        return NOTHING
    return f"{number(result.ratio(GATE, way))} ({number(min(ratios))} to {number(max(ratios))})"


def ratio_table(results: Sequence[Result]) -> str:
    """Return one row a workload: the gate's figure divided by each peer's."""
    of_interest = [result for result in results if GATE in result.ways]
    peers = list(
        dict.fromkeys(
            way
            for result in of_interest
            for way in result.ways
            if way != DIRECT and not way.startswith(GATE) and result.name != "opening"
        )
    )
    rows = [
        [result.name, HEADINGS[result.figure].format(unit=result.unit), number(result.median(GATE))]
        + [number(result.ratio(GATE, peer)) for peer in peers]
        for result in of_interest
        if result.name != "opening"
    ]
    return table(["workload", "figure", "gate", *(f"gate / {peer}" for peer in peers)], rows)


def target_table(judged: Iterable[Verdict]) -> str:
    rows = [
        [one.what, one.against, one.unit, number(one.value), f"{number(one.target)}", one.word]
        for one in judged
    ]
    return table(["what", "against", "unit", "value", "at most", ""], rows)


def markdown(report: Report) -> str:
    """Return the whole report as it is printed and kept."""
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items() if value)
    told = ["# Benchmark", "", f"{report.date}, commit {report.commit}. {facts}. {versions}.", ""]
    told += [f"- {name} is left out: {why}" for name, why in report.missing.items()]
    told += [f"- FAILED {line}" for line in report.failures]
    told += ["", "Medians over rounds in which the ways took turns; every ratio is of readings of one round."]
    told += ["A proxy's CPU is that of all its threads and processes; all proxies have one core."]
    told += ["Latency is from one write of a client until the last message that answers it."]
    told += [report.disturbance]
    if report.plan.get("quick"):
        told += ["**A quick run, to see whether it runs: these figures mean little.**"]
    told += [""]
    told += ["## The gate against the others", "", ratio_table(report.results), ""]
    told += ["## Targets", "", target_table(report.verdicts), ""]
    told += ["## Workloads", "", *(workload_table(result) for result in report.results)]
    return "\n".join(told)
