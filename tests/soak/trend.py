"""Whether memory grows: a line through the samples by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAY_GROW_KB = 5 * 1024
WARM_UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the gate, `at_s` seconds into the run."""

    at_s: float
    rss_kb: int
    descriptors: int
    sessions: int


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of resident memory after the warm-up, and what it comes to over the whole run."""

    kb_per_minute: float
    percent_per_hour: float
    growth_kb: float

    @property
    def grows(self) -> bool:
        return self.growth_kb > MAY_GROW_KB


def warm_up_s(seconds: float) -> float:
    """Return how much of a run of that length is warm-up: two minutes, of a short one a third."""
    return min(WARM_UP_S, seconds / 3)


def trend(samples: Sequence[Sample], seconds: float) -> Trend:
    """Fit the samples after the warm-up. ValueError when there are fewer than two."""
    points = [(one.at_s / 60, one.rss_kb) for one in samples if one.at_s >= warm_up_s(seconds)]
    if len(points) < 2:
        raise ValueError(f"{len(points)} samples after the warm-up are not enough for a slope")
    slope = least_squares(points)
    mean = sum(kb for _, kb in points) / len(points)
    return Trend(slope, slope * 60 / mean * 100, slope * seconds / 60)


def least_squares(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line that fits the points best."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
