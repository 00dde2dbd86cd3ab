"""Departure: the client has left; the upstream is told when it has gone quiet.

The error that fills real logs comes from a backend that replies to a client that has just left. So the
upstream does not hear of it while it is still busy: nothing from it, and nothing delivered to it, for as long
as replies take on this route. Where it usually replies, and what the client said last has had no reply yet,
that reply is waited for. Then its silence is put to the proof: a busy backend is silent too, but answers a
ping late, and what it has to say comes with the pong. No longer than `longest_ms` in all.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# With fewer times known than this a percentile says little: the quiet time is no shorter than the plan's own.
ENOUGH: Final = 20
PERCENTILE: Final = 0.99
# Generous: nobody waits for it, and a backend that is busy pauses for longer than it usually does.
MARGIN: Final = 3.0
_REMEMBERED: Final = 256
# For so long, in ms, an upstream has to stay silent after its pong, if that came at once.
_AFTERWARDS_MS: Final = 10.0
# No more often than this, in ms, is one looked at whose pong is still to come.
_LOOK_MS: Final = 100.0


@dataclass(frozen=True, slots=True)
class DeparturePlan:
    """How long an upstream must have been quiet, and how long that is waited for at most. All in ms.

    `quiet_ms` counts until the route's reply times are known; then the quiet time is learned, between
    `min_ms` and `max_ms`. Not `enabled`: the upstream is told at once.
    """

    enabled: bool
    quiet_ms: float
    min_ms: float
    max_ms: float
    longest_ms: float


class LearnedQuiet:
    """How long an upstream of this route has to be silent before it is quiet. Shared by its sessions.

    `replied` takes the time between a client's message and the reply that followed it, `paused` that between
    two messages of the upstream. In ms.
    """

    __slots__ = ("_pauses", "_plan", "_replies", "_sorted")

    def __init__(self, plan: DeparturePlan) -> None:
        self._plan = plan
        self._pauses: deque[float] = deque()
        self._sorted: list[float] = []  # the same
        self._replies = False

    def replied(self, after_ms: float) -> None:
        """Note how long a reply took."""
        self._replies = True
        self._note(after_ms)

    def paused(self, for_ms: float) -> None:
        """Note a pause within what the upstream says; a long one is the end of it, and teaches nothing."""
        if for_ms <= self._plan.max_ms:
            self._note(for_ms)

    @property
    def patience_ms(self) -> float:
        """How long a reply that is still to come is waited for: an upstream that is busy replies late."""
        return self._plan.max_ms if self._replies else self.quiet_ms

    @property
    def quiet_ms(self) -> float:
        """A high percentile of these times, with a margin, within the plan's bounds."""
        plan, known = self._plan, self._sorted
        if not known:
            return min(plan.quiet_ms, plan.max_ms)
        learned = known[min(int(len(known) * PERCENTILE), len(known) - 1)] * MARGIN
        least = plan.min_ms if len(known) >= ENOUGH else max(plan.min_ms, plan.quiet_ms)
        return min(max(learned, least), plan.max_ms)

    def _note(self, pause_ms: float) -> None:
        if len(self._pauses) == _REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._pauses.popleft())]
        self._pauses.append(pause_ms)
        insort(self._sorted, pause_ms)


class Step(Enum):
    """What to do about an upstream whose client is gone."""

    WAIT = auto()
    PING = auto()
    TELL = auto()


class Departure:
    """Watches an upstream whose client is gone: `look` when `due_ms` has come, do what it says.

    `quiet_ms`: how long it has to be quiet; `patience_ms`: how long, while it has not spoken since it was
    last spoken to; `longest_ms`: how long at most, from `at_ms` on. `answers`: whether it answers pings.
    """

    __slots__ = (
        "_answers", "_asked_ms", "_heard_ms", "_latest_ms", "_looked_ms", "_pinged_ms", "_proved_ms",
        "_started_ms", "patience_ms", "quiet_ms",
    )  # fmt: skip

    def __init__(
        self, quiet_ms: float, patience_ms: float, longest_ms: float, at_ms: float, *, answers: bool = False
    ) -> None:
        self.quiet_ms = quiet_ms
        self.patience_ms = patience_ms
        self._answers = answers
        self._started_ms = at_ms
        self._latest_ms = at_ms + longest_ms
        self._asked_ms = self._heard_ms = -inf
        self._looked_ms = at_ms
        self._pinged_ms: float | None = None
        self._proved_ms: float | None = None  # when its silence is proved, if it lasts

    def asked(self, at_ms: float) -> None:
        """Note that something was delivered to the upstream."""
        self._asked_ms = max(self._asked_ms, at_ms)
        self._happened(at_ms)

    def heard(self, at_ms: float) -> None:
        """Note that the upstream said something."""
        self._heard_ms = max(self._heard_ms, at_ms)
        self._happened(at_ms)

    def ponged(self, at_ms: float) -> None:
        """Note its pong. The longer that took, the longer it may take until it says what it has to say."""
        if self._pinged_ms is not None and self._proved_ms is None:
            self._proved_ms = at_ms + max((at_ms - self._pinged_ms) * MARGIN, _AFTERWARDS_MS)

    @property
    def due_ms(self) -> float:
        """When to look again, if nothing happens until then."""
        if self._pinged_ms is None:
            due_ms = self._quiet_at_ms
        elif self._proved_ms is None:
            # Its pong is told at once; this is for what it may say before.
            due_ms = self._looked_ms + max(self.quiet_ms, _LOOK_MS)
        else:
            due_ms = self._proved_ms
        return min(due_ms, self._latest_ms)

    def look(self, at_ms: float, *, taken: Callable[[], bool] = lambda: True, free: bool = True) -> Step:
        """Return what to do now. `taken`: has it all that was said to it? `free`: a ping may be put in.

        An upstream that had been quiet for long enough before its client left is told at once.
        """
        self._looked_ms = at_ms
        if at_ms >= self._latest_ms:
            return Step.TELL
        if self._pinged_ms is not None:
            # Its pong shows that it has all that was said to it before the ping.
            return Step.WAIT if self._proved_ms is None or at_ms < self._proved_ms else Step.TELL
        if at_ms < self._quiet_at_ms or not taken():
            return Step.WAIT
        if self._quiet_at_ms <= self._started_ms or not (self._answers and free):
            return Step.TELL
        self._pinged_ms = at_ms
        return Step.PING

    @property
    def _quiet_at_ms(self) -> float:
        if self._heard_ms >= self._asked_ms:
            return max(self._heard_ms + self.quiet_ms, self._started_ms)
        return max(self._asked_ms + max(self.patience_ms, self.quiet_ms), self._started_ms)

    def _happened(self, at_ms: float) -> None:
        if self._pinged_ms is not None and at_ms > self._pinged_ms:
            self._pinged_ms = self._proved_ms = None  # it was not quiet

    def waited_ms(self, at_ms: float) -> float:
        """Return for how long the upstream has not been told by now."""
        return at_ms - self._started_ms
