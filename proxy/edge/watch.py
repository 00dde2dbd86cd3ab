"""What time alone does to an open session: keepalive of both legs, idle time, age, the end of its token."""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeAlias

from proxy.core.keepalive import Keepalive, Signs, Verdict
from proxy.core.plan import Role
from proxy.edge.acked import unacked
from proxy.edge.shared import after_poll, now_ms

if TYPE_CHECKING:
    import asyncio

    from proxy.edge.relay import Relay
    from proxy.policy import Settings
    from proxy.telemetry import EndReason

_SERVICE_RESTART = 1012
_GOING_AWAY = 1001


# When a session's token expires, on the monotonic clock, and the Close code for that.
Expiry: TypeAlias = "tuple[float, int]"


class Watched(Protocol):
    """The session that is watched."""

    client: Relay
    upstream: Relay

    def ping(self, role: Role) -> None:
        """Ping a leg."""

    def dead(self, role: Role) -> None:
        """Take it that a leg's peer is there no more."""

    def end(self, reason: EndReason, code: int) -> None:
        """End the session by our own will."""

    def time_replies(self) -> None:
        """Learn from the next few exchanges how long replies take."""


class Watch:
    """One timer for a session, at the earliest moment that something may be due. `stop` it when it ends."""

    __slots__ = (
        "_ends_ms",
        "_expiry",
        "_idle_ms",
        "_keepalives",
        "_loop",
        "_measurable",
        "_session",
        "_timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Watched,
        settings: Settings,
        *,
        age_ms: float,
        expiry: Expiry | None = None,
        answers: tuple[bool | None, bool | None],
        measurable: bool,
    ) -> None:
        at_ms = now_ms()
        self._loop = loop
        self._session = session
        self._measurable = measurable
        self._keepalives = tuple(
            Keepalive(settings.keepalive[role], at_ms, answers=answering)
            for role, answering in zip(Role, answers, strict=True)
        )
        idle_s, max_s = settings.limits.idle_s, settings.session.max_s
        self._idle_ms = inf if idle_s is None else idle_s * 1000
        # Those that came together need not leave together.
        jitter = 1 - settings.session.jitter * random.random()  # noqa: S311 - spreads load, keeps no secret
        self._ends_ms = inf if max_s is None else at_ms - age_ms + max_s * 1000 * jitter
        self._expiry = expiry
        self._timer: asyncio.TimerHandle | None = None
        self._arm(at_ms)

    def ponged(self, role: Role) -> None:
        """Note the answer to a ping of ours."""
        at_ms = now_ms()
        self._keepalives[role is Role.UPSTREAM].ponged(at_ms)
        if self._timer is not None:
            self._arm(at_ms)

    def answers(self, role: Role) -> bool:
        """Return whether this leg is known to answer pings."""
        return self._keepalives[role is Role.UPSTREAM].answers

    def stop(self) -> None:
        """Watch no more, and let go of the session: together they would be a circle. Call it once."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        del self._session

    def _arm(self, at_ms: float) -> None:
        due_ms = min(self._ends_ms, self._idle_due_ms, *(each.due_ms for each in self._keepalives))
        if self._expiry is not None:
            due_ms = min(due_ms, self._expiry[0])
        if self._timer is not None:
            self._timer.cancel()
        if due_ms < inf:
            wait_s = max(due_ms - at_ms, 1.0) / 1000
            self._timer = self._loop.call_later(wait_s, after_poll, self._loop, self._look)

    @property
    def _idle_due_ms(self) -> float:
        session = self._session
        return max(session.client.said_s, session.upstream.said_s) * 1000 + self._idle_ms

    def _look(self) -> None:
        if self._timer is None:
            return  # it was stopped in this very turn
        at_ms = now_ms()
        if self._expiry is not None and at_ms >= self._expiry[0]:
            self._session.end("expired", self._expiry[1])
            return
        if at_ms >= self._ends_ms:
            self._session.end("max_age", _SERVICE_RESTART)
            return
        if at_ms >= self._idle_due_ms:
            self._session.end("idle", _GOING_AWAY)
            return
        for role, keepalive in zip(Role, self._keepalives, strict=True):
            verdict = keepalive.look(at_ms, self._signs(role))
            if verdict is Verdict.DEAD:
                self._session.dead(role)
                return
            if verdict is Verdict.PING:
                self._session.ping(role)
        self._session.time_replies()
        self._arm(at_ms)

    def _signs(self, role: Role) -> Signs:
        session = self._session
        leg, other = session.client, session.upstream
        if role is Role.UPSTREAM:
            leg, other = other, leg
        waiting = unacked(leg.transport) if self._measurable else None
        return Signs(
            heard_ms=leg.said_s * 1000,
            taken=None if waiting is None else other.walker.payload_bytes - waiting,
            unacked=waiting,
            paused=bool(leg.holds),
            free=other.walker.at_boundary,
            torso=not leg.walker.at_boundary,
        )
