"""Departure: the client has left; the upstream is told when it has gone quiet.

The error that fills real logs comes from a backend that replies to a client that has just left. So the
upstream does not hear of it while it is still busy: nothing from it, and nothing delivered to it, for
`quiet_ms`, and no longer than `max_ms` in all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeparturePlan:
    """How long an upstream must have been quiet, and how long that is waited for at most. In ms."""

    quiet_ms: float
    max_ms: float


class Departure:
    """Watches an upstream whose client is gone. `due_ms`: when to look again; `over`: whether it is time."""

    __slots__ = ("_active_ms", "_plan", "_started_ms")

    def __init__(self, plan: DeparturePlan, at_ms: float, active_ms: float) -> None:
        """Start at `at_ms`; the upstream last spoke, or was last spoken to, at `active_ms`."""
        self._plan = plan
        self._started_ms = at_ms
        self._active_ms = active_ms

    def heard(self, at_ms: float) -> None:
        """Note that the upstream said something, which nobody will hear."""
        self._active_ms = at_ms

    @property
    def due_ms(self) -> float:
        """When the upstream will have been quiet long enough, if it says nothing more."""
        return min(self._active_ms + self._plan.quiet_ms, self._started_ms + self._plan.max_ms)

    def over(self, at_ms: float) -> bool:
        """Return whether the upstream may be told."""
        return at_ms >= self.due_ms
