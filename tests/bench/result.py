"""What is measured: readings of each way, round by round, and the arithmetic on them.

A *way* is how the client reaches the backend: `direct`, `gate`, or through another proxy. A *reading* is what
one turn of one way gave, figures by name; the unit is the end of the name (`cpu_us`, `open_ms`, `per_s`).
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field

DIRECT, GATE, PLAIN = "direct", "gate", "gate-plain"
Reading = dict[str, float]
Round = dict[str, Reading]


@dataclass(slots=True)
class Result:
    """One workload. `figure` is the reading that ways are compared by; `unit` is what it counts one of.

    `samples`: single measurements by way, for distributions. `failed`: what went wrong, by way.
    """

    name: str
    title: str
    unit: str
    figure: str
    rounds: list[Round] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def ways(self) -> list[str]:
        """The ways that have at least one reading, in the order of their appearance."""
        return list(dict.fromkeys(way for taken in self.rounds for way in taken))

    @property
    def figures(self) -> list[str]:
        """The names of all readings, in the order of their appearance."""
        return list(dict.fromkeys(name for taken in self.rounds for one in taken.values() for name in one))

    def values(self, way: str, figure: str = "") -> list[float]:
        """All rounds' readings of a way."""
        figure = figure or self.figure
        return [taken[way][figure] for taken in self.rounds if figure in taken.get(way, {})]

    def median(self, way: str, figure: str = "") -> float | None:
        """Return the median over rounds; None for a way without that reading."""
        values = self.values(way, figure)
        return statistics.median(values) if values else None

    def ratios(self, over: str, under: str, figure: str = "") -> list[float]:
        """Return one way's reading divided by another's, for each round that has both."""
        figure = figure or self.figure
        both = [
            (taken[over][figure], taken[under][figure])
            for taken in self.rounds
            if figure in taken.get(over, {}) and taken.get(under, {}).get(figure)
        ]
        return [one / other for one, other in both]

    def ratio(self, over: str, under: str, figure: str = "") -> float | None:
        """Return the median of the rounds' ratios; None when no round has both."""
        ratios = self.ratios(over, under, figure)
        return statistics.median(ratios) if ratios else None

    def above_direct(self, way: str, figure: str) -> list[float]:
        """Return by how much a way's reading is above the direct way's, for each round that has both."""
        return [
            taken[way][figure] - taken[DIRECT][figure]
            for taken in self.rounds
            if figure in taken.get(way, {}) and figure in taken.get(DIRECT, {})
        ]

    def record(self) -> dict[str, object]:
        return asdict(self)


def from_record(record: dict) -> Result:
    """Build a result from what `record` gave, as JSON returns it."""
    return Result(**record)


def p50_p99(values: Sequence[float]) -> tuple[float, float]:
    """Return median and 99th percentile."""
    if len(values) < 2:
        return values[0], values[0]
    return statistics.median(values), statistics.quantiles(values, n=100, method="inclusive")[98]


async def interleave(
    result: Result, ways: list[str], rounds: int, turn: Callable[[str], Awaitable[Reading]], bound_s: float
) -> None:
    """Let the ways take turns, in reverse order every other round.

    A way whose turn fails, or takes longer than its bound, is noted and takes no further part.
    """
    for number in range(rounds):
        taken: Round = {}
        for way in ways if number % 2 == 0 else reversed(ways):
            if way in result.failed:
                continue
            try:
                async with asyncio.timeout(bound_s):
                    taken[way] = await turn(way)
            except Exception as error:
                result.failed[way] = told(error)
        result.rounds.append({way: taken[way] for way in ways if way in taken})


def told(error: Exception) -> str:
    """Return an error in words; of a group, the first one."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
