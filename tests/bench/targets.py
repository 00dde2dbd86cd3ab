"""What must be reached, and whether it was: ratios of the gate to a peer, within the rounds of one run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.coming import TRACING
from tests.bench.relaying import AT_100
from tests.bench.result import DIRECT, GATE, Result
from tests.bench.telling import FAULTS

BEST = "the best peer"
HANDSHAKE_MS = 1.0
HANDSHAKE_NGINX = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """`value` is met when it is at most `target`; None when it was not measured."""

    what: str
    against: str
    value: float | None
    target: float
    unit: str = "ratio"

    @property
    def met(self) -> bool:
        return self.value is not None and self.value <= self.target

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if self.met else "MISSED"


_RATIOS = [
    ("echo-64B-100", "nginx", 1.25),
    ("echo-64B-100", "haproxy", 1.0),
    ("echo-64B-100", "envoy", 0.8),
    ("burst-8", "envoy", 0.9),
    ("burst-64", "envoy", 0.9),
    ("echo-64KiB-20", BEST, 0.8),
    ("echo-1MiB-4", BEST, 0.8),
    ("idle-memory", "nginx", 0.7),
]


def verdicts(results: Mapping[str, Result]) -> list[Verdict]:
    """Judge all targets whose workload was run."""
    judged = [ratio(results[name], peer, target) for name, peer, target in _RATIOS if name in results]
    for name, judge in [
        ("echo-64B-1", latency),
        ("echo-64B-5000", growth),
        ("handshakes", handshake),
        ("opening", first_reply),
        ("telemetry-faults", collector_in_trouble),
        ("telemetry-faults", collector_costs),
    ]:
        if name in results:
            judged.append(judge(results[name]))
    return judged


def best_peer(result: Result) -> str | None:
    """Return the cheapest way other than direct and those of the gate."""
    peers = [way for way in result.ways if way not in {DIRECT, AT_100} and not way.startswith(GATE)]
    known = {way: value for way in peers if (value := result.median(way)) is not None}
    return min(known, key=known.__getitem__) if known else None


def ratio(result: Result, peer: str, target: float) -> Verdict:
    """Judge the gate against a peer, by the workload's figure."""
    under = best_peer(result) if peer == BEST else peer
    against = f"{BEST} ({under})" if peer == BEST and under else peer
    value = result.ratio(GATE, under) if under else None
    what = "memory" if result.figure == "rss_kb" else "CPU"
    return Verdict(f"{result.title}: {what} per {result.unit}", against, value, target)


def latency(result: Result) -> Verdict:
    """Judge the median round trip above direct."""
    above = [result.above_direct(way, "p50_us") for way in (GATE, "nginx")]
    ratios = [gate / nginx for gate, nginx in zip(*above, strict=False) if nginx > 0]
    value = statistics.median(ratios) if ratios else None
    return Verdict(f"{result.title}: p50 above direct", "nginx", value, 1.1)


def growth(result: Result) -> Verdict:
    """Judge what a message costs with many connections against what it costs with few."""
    return Verdict(
        f"{result.title}: CPU per message", "the gate itself at 100", result.ratio(GATE, AT_100), 1.25
    )


def handshake(result: Result) -> Verdict:
    """Judge a staged handshake with spans: 1 ms of CPU, or eight times nginx's."""
    value_us, nginx_us = result.median(TRACING), result.median("nginx")
    value = None if value_us is None else value_us / 1000
    target = max(HANDSHAKE_MS, HANDSHAKE_NGINX * (nginx_us or 0) / 1000)
    return Verdict(
        f"{result.title}: CPU with spans",
        f"{HANDSHAKE_MS:g} ms or {HANDSHAKE_NGINX} x nginx",
        value,
        target,
        "ms",
    )


def collector_in_trouble(result: Result) -> Verdict:
    """Judge the worst of a collector that is down, silent or refusing, by time, against no telemetry."""
    ratios = [one for way in FAULTS if (one := result.ratio(GATE, way, "per_s")) is not None]
    value = max(ratios) if ratios else None
    return Verdict("handshakes with a collector down, silent or refusing: time", "no telemetry", value, 1.05)


def collector_costs(result: Result) -> Verdict:
    """Judge the same by CPU."""
    ratios = [one for way in FAULTS if (one := result.ratio(way, GATE)) is not None]
    value = max(ratios) if ratios else None
    return Verdict("handshakes with a collector down, silent or refusing: CPU", "no telemetry", value, 1.05)


def first_reply(result: Result) -> Verdict:
    """Judge how much longer than direct the first reply takes with the policy `production`."""
    above = result.above_direct(GATE, "reply_ms")
    value = statistics.median(above) if above else None
    return Verdict("healthy uvicorn: p50 of the first reply, above direct", DIRECT, value, 2.0, "ms")
