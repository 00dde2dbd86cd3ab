"""Keepalive: whether a peer that says nothing is still there.

A leg that was silent for `interval_ms` is pinged; one that gives no sign of life for `timeout_ms` is dead.
Whatever a peer says is a sign of life. So is, while our ping still waits behind other bytes, that the peer
takes some of them: a slow reader is not a dead one. Of a peer that has never answered a ping (some stacks do
not) no more is asked than that its kernel acknowledges ours, which no kernel does behind a dead link.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf


@dataclass(frozen=True, slots=True)
class KeepalivePlan:
    """When a silent leg is pinged, and when it is dead, in ms. `interval_ms` None: neither, ever."""

    interval_ms: float | None
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class Signs:
    """What can be seen of a leg now.

    `heard_ms`: when it last said something. `taken`: how much it has taken of what was written to it, in
    bytes, counted from anywhere; `unacked`: what it has not taken yet; both None where the kernel does not
    tell. `paused`: whether we have stopped reading it. `free`: whether a ping may be put in, because no frame
    is under way to it. `torso`: whether it stopped in the middle of a frame of its own.
    """

    heard_ms: float
    taken: int | None
    unacked: int | None
    paused: bool = False
    free: bool = True
    torso: bool = False


class Verdict(Enum):
    """What to do about a leg."""

    FINE = auto()
    PING = auto()
    DEAD = auto()


class Keepalive:
    """Watches one leg of an open session: `look` at it when `due_ms` has come."""

    __slots__ = (
        "_asked",
        "_life_ms",
        "_owes_ms",
        "_pinged",
        "_plan",
        "_taken",
        "_unasked",
        "answers",
        "due_ms",
    )

    def __init__(self, plan: KeepalivePlan, at_ms: float, *, answers: bool | None) -> None:
        """Start at `at_ms`. `answers`: whether this peer has answered a ping; None: it was not asked yet.

        Then it is asked at once: what it does while it is there tells what its silence means later. The
        attribute `answers` is what is known by now.
        """
        self._plan = plan
        self.answers = bool(answers)
        self._unasked = answers is None
        self._life_ms = at_ms
        self._pinged = False
        self._asked = 0  # what it will have taken before our ping
        self._owes_ms: float | None = None  # since when it owes us a sign of life: a pong, or an ack
        self._taken: int | None = None
        wait_ms = 0.0 if self._unasked else plan.interval_ms
        self.due_ms = inf if plan.interval_ms is None or wait_ms is None else at_ms + wait_ms

    def ponged(self, at_ms: float) -> None:
        """Note the answer to a ping of ours."""
        self.answers = True
        self._alive(at_ms)
        if self._plan.interval_ms is not None:
            self.due_ms = at_ms + self._plan.interval_ms

    def look(self, at_ms: float, signs: Signs) -> Verdict:
        """Judge a leg by what can be seen of it at `at_ms`. After `PING` it must be pinged."""
        interval_ms = self._plan.interval_ms
        if interval_ms is None:
            return Verdict.FINE
        if signs.heard_ms > self._life_ms:
            self._alive(signs.heard_ms)
        if signs.paused or self._takes(signs):
            self._alive(at_ms)
        self._taken = signs.taken
        verdict = self._judge(at_ms, interval_ms, signs)
        self.due_ms = self._next_ms(at_ms, interval_ms)
        return verdict

    def _judge(self, at_ms: float, interval_ms: float, signs: Signs) -> Verdict:
        silent_ms = at_ms - self._life_ms
        if signs.unacked and self._owes_ms is None:
            self._owes_ms = at_ms
        owed_ms = 0.0 if self._owes_ms is None else at_ms - self._owes_ms
        overdue = self._owes_ms is not None and owed_ms >= self._plan.timeout_ms - interval_ms
        if silent_ms >= self._plan.timeout_ms and (overdue or (signs.torso and not signs.free)):
            return Verdict.DEAD
        wanted = silent_ms >= interval_ms or self._unasked
        if not wanted or self._pinged or not signs.free:
            return Verdict.FINE
        self._unasked = False
        self._pinged = True
        self._asked = (signs.taken or 0) + (signs.unacked or 0)
        self._owes_ms = at_ms
        return Verdict.PING

    def _takes(self, signs: Signs) -> bool:
        """Whether the peer takes what comes before our ping, or the ping itself where no more is asked."""
        if self._pinged and (signs.taken is None or signs.taken >= self._asked):
            return not self.answers
        if signs.taken is None or self._taken is None or (not self._pinged and signs.free):
            return False
        return signs.taken > self._taken

    def _alive(self, at_ms: float) -> None:
        self._life_ms = max(self._life_ms, at_ms)
        self._pinged = False
        self._owes_ms = None

    def _next_ms(self, at_ms: float, interval_ms: float) -> float:
        """When to look again: what could not be done now is tried again after a part of the interval."""
        due_ms = self._life_ms + interval_ms
        if self._owes_ms is not None and self.answers:
            due_ms = max(self._life_ms, self._owes_ms - interval_ms) + self._plan.timeout_ms
        return max(due_ms, at_ms + interval_ms / 4)
