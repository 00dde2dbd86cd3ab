"""Learned windows: how long a leg of this route must stay up before it is believed.

Towards the upstream the window starts wide: nothing is known yet, and an open gate cannot be redialled. It
falls to the minimum once `TRUST` legs in a row stayed up. One early loss raises it to the maximum at once;
when enough losses are known, it follows a high percentile of the times at which they came, with a margin.
Losses are forgotten after `memory_s`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.core.plan import WindowPlan

# After n legs that all stayed up, at most 3/n of them are bad, at 95 % ("rule of three"): 15 % for 20.
TRUST: Final = 20
# With fewer losses than this a percentile says nothing: stay at the maximum.
ENOUGH: Final = 20
PERCENTILE: Final = 0.99
MARGIN: Final = 1.5
_REMEMBERED: Final = 256


class LearnedWindow:
    """The stabilization window of one leg of one route, shared by its sessions. All times in ms.

    `trusting`: nothing bad is expected of a leg of which nothing is known (the client: it is not redialled).
    """

    __slots__ = ("_losses", "_plan", "_steady")

    def __init__(self, plan: WindowPlan, *, trusting: bool = False) -> None:
        self._plan = plan
        self._losses: deque[tuple[float, float | None]] = deque(maxlen=_REMEMBERED)  # (at_ms, age_ms)
        self._steady = TRUST if trusting else 0

    def width_ms(self, at_ms: float) -> float:
        """Return how long a leg that was validated at `at_ms` must stay up.

        Changes nothing, so that another thread may ask, too.
        """
        plan, losses = self._plan, self._losses
        if not losses or at_ms - losses[-1][0] > plan.memory_s * 1000:  # the last one is the latest
            return plan.min_ms if self._steady >= TRUST else plan.max_ms
        oldest_ms = at_ms - plan.memory_s * 1000
        ages = sorted(age for lost_ms, age in tuple(losses) if age is not None and lost_ms >= oldest_ms)
        if len(ages) < ENOUGH:
            return plan.max_ms
        learned = ages[min(int(len(ages) * PERCENTILE), len(ages) - 1)] * MARGIN
        return min(max(learned, plan.min_ms), plan.max_ms)

    def survived(self) -> None:
        """Note a leg that stayed up for its window."""
        self._steady += 1

    def lost(self, age_ms: float | None, at_ms: float) -> None:
        """Note a leg lost `age_ms` after its validation (None: before it). Late losses teach nothing."""
        if age_ms is None or age_ms <= self._plan.max_ms:
            self._losses.append((at_ms, age_ms))
            self._steady = 0

    def doubt(self) -> None:
        """Note that the peer could not be reached, or refused: it may be starting, and shaky at first."""
        self._steady = 0
