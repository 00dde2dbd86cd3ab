"""A line of the race's table: what became of one family, one way, and its record for the JSON file."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field

from tests.backends.launch import Server
from tests.race.clients import Outcome
from tests.race.family import Family

COLUMNS = "{:<40}{:<17}{:>7}{:>8}{:>6}{:>6}{:>9}{:>11}{:>8}{:>12}{:>14}{:>14}"
HEADINGS = (
    "family", "via", "opened", "served", "lost", "twice", "disorder", "log lines", "errors", "accept err",
    "open p50/p99", "close p50/p99",
)  # fmt: skip
# What a backend's log says of a client that is gone, and all errors together.
COMPLAINTS = {
    "accept": 'Need to call "accept" first',
    "after_close": "Unexpected ASGI message",
    "close_twice": "send once a close",
    "closed": "Attempt to send on a closed protocol",
    "disconnect": r"WebSocketDisconnect\b",
    "errors": r"^Traceback \(most recent call last\)",
}


def complaints(log: str) -> dict[str, int]:
    """Count the errors of each kind; the line of code that raised one is not another one."""
    lines = [line for line in log.splitlines() if not line.lstrip().startswith("raise ")]
    return {name: sum(bool(re.search(words, line)) for line in lines) for name, words in COMPLAINTS.items()}


@dataclass
class Share:
    """What one server had of a row, and what it logged."""

    connections: int
    served: int
    log_lines: int
    complaints: dict[str, int]
    log_sample: str

    @classmethod
    def of(cls, server: Server, outcomes: list[Outcome]) -> Share:
        log, served = server.log(), sum(outcome.served for outcome in outcomes)
        return cls(len(outcomes), served, server.log_lines(), complaints(log), log[:6000])


@dataclass
class Row:
    """One family, one way."""

    family: Family
    via: str
    wanted: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    servers: dict[str, Share] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    front_log: str = ""

    @property
    def served(self) -> int:
        return sum(outcome.served for outcome in self.outcomes)

    @property
    def log_lines(self) -> int:
        return sum(share.log_lines for share in self.servers.values())

    @property
    def good(self) -> bool:
        quiet = not (self.family.quiet_log and self.log_lines)
        return self.served == self.wanted and quiet and not self.trouble

    def line(self) -> str:
        names = ("opened", "served", "lost", "duplicated", "disordered")
        totals = [sum(getattr(outcome, name) for outcome in self.outcomes) for name in names]
        shares = self.servers.values()
        errors = [sum(share.complaints[name] for share in shares) for name in ("errors", "accept")]
        times = [
            middle_and_tail([getattr(o, name) for o in self.outcomes]) for name in ("open_ms", "close_ms")
        ]
        return COLUMNS.format(self.family.title, self.via, *totals, self.log_lines, *errors, *times)

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
            "servers": {name: asdict(share) for name, share in self.servers.items()},
        }


def percentile(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def middle_and_tail(values: list[float | None]) -> str:
    """Write the 50th and the 99th percentile in ms."""
    known = [value for value in values if value is not None]
    return f"{percentile(known, 50):.1f}/{percentile(known, 99):.1f}" if known else "-"
