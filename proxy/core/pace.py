"""Pace: how long a leg is not read so that it says no more than so many messages a second."""

from __future__ import annotations


class Pace:
    """A leg that may say `per_s` messages a second, and as many as in one second at once."""

    __slots__ = ("_free_ms", "_gap_ms")

    def __init__(self, per_s: float) -> None:
        self._gap_ms = 1000 / per_s
        self._free_ms = 0.0  # when all that was said will have been paid for

    def took(self, messages: int, at_ms: float) -> float:
        """Note messages that were passed on; return for how many ms nothing more may be. Nothing is lost."""
        self._free_ms = max(self._free_ms, at_ms) + messages * self._gap_ms
        burst_ms = max(1000.0, self._gap_ms)
        return max(0.0, self._free_ms - burst_ms - at_ms)
