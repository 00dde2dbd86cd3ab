"""The rules of redialling: what may be tried again, how often, and after how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.plan import RedialPlan


class Redials:
    """The tries of one session. `reached` counts those that reached the upstream, `causes` why each failed.

    Refused connections cost the upstream nothing, so the deadline alone ends them.
    """

    __slots__ = ("_chance", "_plan", "causes", "reached")

    def __init__(self, plan: RedialPlan, chance: Callable[[], float]) -> None:
        self._plan = plan
        self._chance = chance
        self.reached = 0
        self.causes: list[str] = []

    @property
    def exhausted(self) -> bool:
        """Whether the upstream has been reached as often as it may be."""
        return self.reached >= self._plan.tries

    def status_allows(self, status: int) -> bool:
        """Return whether a response with this status may be followed by another try."""
        return status in self._plan.statuses and not self.exhausted

    def close_allows(self, code: int) -> bool:
        """Return whether a Close with this code (1006: none) may be followed by another try."""
        return code in self._plan.close_codes and not self.exhausted

    def next_after_ms(self, cause: str) -> float:
        """Note why a try failed; return how long to wait before the next: exponential, capped, jittered."""
        plan = self._plan
        delay = min(plan.base_ms * 2.0 ** min(len(self.causes), 30), plan.max_ms)
        self.causes.append(cause)
        return delay * (1.0 + plan.jitter * (2.0 * self._chance() - 1.0))
