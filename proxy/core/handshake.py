"""The handshake of one session: both legs, events in, commands out.

`Handshake.feed` takes one event and returns the commands that follow from it. It dials, redials, runs the
stages of both legs, holds what either side says too early, and decides: open the gate, refuse the client,
close it, or let the upstream depart because nobody is left to talk to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.core.adaptive import LearnedWindow
from proxy.core.announcement import Announcement
from proxy.core.commands import (
    AcceptClient,
    ArmTimer,
    CloseClient,
    Command,
    DepartUpstream,
    Dial,
    DropUpstream,
    Finish,
    MirrorResponse,
    OpenGate,
    PauseReading,
    RefuseClient,
)
from proxy.core.events import (
    BytesAcked,
    BytesReceived,
    ClientAccepted,
    DrainStarted,
    Event,
    LegLost,
    TimerFired,
    UpgradeRequested,
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.frames import LOST
from proxy.core.leg import Leg, State, Trigger
from proxy.core.plan import Accept, Role, WindowPlan
from proxy.core.redial import Redials
from proxy.core.report import HandshakeReport, Outcome, StageOutcome, StageRecord
from proxy.core.side import Side
from proxy.core.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from proxy.core.early import EarlyBuffer, EarlyTotal
    from proxy.core.frames import FrameWalker
    from proxy.core.plan import HandshakePlan

CLIENT: Final = Role.CLIENT
UPSTREAM: Final = Role.UPSTREAM

# RFC 6455 7.4.1 and the IANA registry of close codes.
_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013
_SERVICE_RESTART: Final = 1012
_GOING_AWAY: Final = 1001
_NORMAL: Final = frozenset({1000, 1001, 1005})
_NOTHING: Final = 1000


def learned_windows(plan: HandshakePlan) -> dict[Role, LearnedWindow]:
    """Return fresh learned windows for the two legs of a route; its sessions share them."""
    windows = {}
    for role in Role:
        stabilization = plan.leg(role).stabilization
        width = stabilization if isinstance(stabilization, WindowPlan) else WindowPlan(0.0, 0.0)
        windows[role] = LearnedWindow(width, trusting=role is CLIENT)
    return windows


class Handshake:
    """One session until its gate opens, or until it is clear that it never will.

    `nonce` gives 8 unpredictable bytes for a ping, `chance` a number in [0, 1) for jitter; `measurable` says
    of a role whether the kernel shows what was acked. Windows are shared by the sessions of a route, `early`
    counts what all sessions hold.
    """

    def __init__(
        self,
        plan: HandshakePlan,
        windows: Mapping[Role, LearnedWindow],
        *,
        nonce: Callable[[], bytes],
        chance: Callable[[], float],
        measurable: Callable[[Role], bool] = lambda _: True,
        early: EarlyTotal | None = None,
    ) -> None:
        self._plan = plan
        self._early = early
        self._windows = windows
        self._nonce = nonce
        self._measurable = measurable
        self._sides = {role: self._fresh(Leg(role)) for role in Role}
        self._client.walker.hold_close = True
        self._redials = Redials(plan.redial, chance)
        self._at_ms = self._deadline_ms = 0.0
        self._armed_ms: float | None = None
        self._attempt = 0
        self._cause: str | None = None  # why the last try failed, when no other follows
        self._past_stages: list[StageRecord] = []
        self._status: int | None = None  # the last response that can be mirrored
        self._agreed: tuple[str | None, str | None] | None = None  # subprotocol, extensions
        self._accepted = False  # the client has its 101, or it is being written
        self._told = False  # the client was told of a failure
        self.finished = False

    def _fresh(self, leg: Leg) -> Side:
        """Return a leg of which nothing is known yet."""
        return Side(leg, self._plan.leg(leg.role).early_bytes, self._plan.message_bytes, self._early)

    # -- what the edge may ask ------------------------------------------------------------------------------

    def walker(self, role: Role) -> FrameWalker:
        """Return the walker of what this leg says; the relay goes on with it."""
        return self._sides[role].walker

    def early(self, role: Role) -> EarlyBuffer:
        """Return what this leg said too early."""
        return self._sides[role].early

    def forget_early(self) -> None:
        """Hold nothing any more: the session is over."""
        for side in self._sides.values():
            side.early.clear()

    def state(self, role: Role) -> State:
        """Return where this leg is."""
        return self._sides[role].leg.state

    def close(self, role: Role) -> tuple[int, str] | None:
        """Return this leg's own Close (code, reason), if it sent one before the gate opened."""
        return self._sides[role].close

    def validated_ms(self, role: Role) -> float | None:
        """Return when this leg was validated; a loss soon after it is to be told to its learned window."""
        stages = self._sides[role].stages
        return stages.validated_ms if stages else None

    def answered(self, role: Role) -> bool | None:
        """Return whether this leg has answered our ping; None: it was sent none."""
        stages = self._sides[role].stages
        return stages.pong if stages is not None and stages.pinged else None

    @property
    def redials(self) -> int:
        """Tries beyond the first, so far."""
        return len(self._redials.causes)

    # -- events ---------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Command]:
        """Take what happened; return what is to be done, in order."""
        self._at_ms = event.at_ms
        commands = list(self._on(event))
        if not self.finished:
            dues = [side.stages.due_ms for side in self._sides.values() if side.stages]
            due = min([self._deadline_ms, *(due for due in dues if due is not None)])
            if due != self._armed_ms or isinstance(event, TimerFired):
                self._armed_ms = due
                commands.append(ArmTimer(due))
        return commands

    def _on(self, event: Event) -> Iterator[Command]:  # noqa: C901 - one row an event
        match event:
            case BytesReceived():
                yield from self._on_bytes(event)
            case BytesAcked():
                yield from self._on_acked(event)
            case TimerFired():
                yield from self._on_timer()
            case LegLost():
                yield from self._on_client_lost() if event.role is CLIENT else self._on_upstream_lost()
            case ClientAccepted():
                yield from self._on_client_accepted()
            case UpstreamConnected():
                self._upstream.leg.move(Trigger.CONNECTED)
            case UpstreamAccepted():
                yield from self._on_upstream_accepted(event)
            case UpstreamRejected():
                yield from self._on_upstream_rejected(event)
            case UpstreamUnreachable():
                yield from self._redial(event.cause)
            case UpgradeRequested():
                yield from self._on_upgrade_requested(event)
            case DrainStarted():
                self._status = None  # the gate's own 503 says when to come back; an old answer would not
                yield from self._give_up("the gate is stopping", _SERVICE_RESTART, Outcome.FAILED)

    def _on_upgrade_requested(self, event: UpgradeRequested) -> Iterator[Command]:
        self._deadline_ms = event.at_ms + self._plan.deadline_ms
        if self._plan.accept is Accept.EAGER:
            listed = self._plan.eager_subprotocols
            subprotocol = next((name for name in event.subprotocols if name in listed), None)
            self._agreed = (subprotocol, None)
            yield self._accept_client()
        yield from self._dial(0.0)

    def _on_client_accepted(self) -> Iterator[Command]:
        """Start the client leg's stages. What it said before its 101 proves nothing."""
        client = self._client
        client.leg.move(Trigger.ACCEPTED)
        if client.left or self.finished:  # it left meanwhile: its closing handshake is not delayed
            if client.close is not None and not client.gone and not self._told:
                yield CloseClient(*client.close)
            return
        yield from self._start_stages(client)
        yield from self._decide()

    def _on_upstream_accepted(self, event: UpstreamAccepted) -> Iterator[Command]:
        self._redials.reached += 1
        upstream = self._upstream
        upstream.leg.move(Trigger.ACCEPTED)
        negotiated = (event.subprotocol, event.extensions)
        otherwise = self._accepted and negotiated != self._agreed
        if otherwise:  # its client was promised something else: what it said would mean another thing there
            self._client.early.clear()
        else:
            self._agreed = negotiated
        if self.finished or (self._client.left and not self._client.early.size):
            yield from self._let_depart()
            return
        if otherwise:  # this counts as upstream loss
            yield from self._give_up(
                "the upstream negotiated otherwise", self._plan.lost_code, Outcome.FAILED
            )
            return
        yield from self._start_stages(upstream, acked=True, tail=event.tail)
        yield from self._decide()

    def _on_upstream_rejected(self, event: UpstreamRejected) -> Iterator[Command]:
        self._redials.reached += 1
        if not self.finished:
            self._status = event.status
            if event.held and self._redials.status_allows(event.status):
                yield from self._redial(f"status_{event.status}")
                return
        self._upstream.leg.move(Trigger.CLOSE)
        if self.finished:
            return
        if self._accepted and not self._client.left:
            code = _POLICY_VIOLATION if 400 <= event.status < 500 else _TRY_AGAIN_LATER
            yield from self._close_accepted(code, f"upstream answered {event.status}", Outcome.REJECTED)
            return
        yield from self._answer_client("")
        yield self._finish(Outcome.ABANDONED if self._client.gone else Outcome.REJECTED)

    def _on_bytes(self, event: BytesReceived) -> Iterator[Command]:
        side = self._sides[event.role]
        closed = side.close is not None
        full = side.hold(event.data, event.at_ms)
        if self.finished:
            if self._told:  # it goes on, but nobody will hear it
                side.early.clear()
            return
        if full:
            yield PauseReading(event.role)
        if side.close is not None and not closed:
            yield from self._on_client_leaving() if side is self._client else self._on_upstream_close(side)
        yield from self._advance(self._sides[event.role])

    def _on_upstream_close(self, upstream: Side) -> Iterator[Command]:
        """The upstream closed before the gate opened: try again, or take it as its answer."""
        assert upstream.close is not None
        code = upstream.close[0]
        if self._redials.close_allows(code):
            yield from self._upstream_fell(f"close_{code}")
            return
        upstream.abort(self._at_ms)
        upstream.leg.move(Trigger.ANSWER)
        yield from self._decide()

    def _on_acked(self, event: BytesAcked) -> Iterator[Command]:
        side = self._sides[event.role]
        if side.stages:
            side.stages.acked = True
        yield from self._advance(side)

    def _on_timer(self) -> Iterator[Command]:
        if self._at_ms >= self._deadline_ms:
            yield from self._give_up("the backend was not ready in time", _TRY_AGAIN_LATER, Outcome.TIMEOUT)
            return
        for role in (CLIENT, UPSTREAM):
            side = self._sides[role]
            if side.stages:
                side.stages.ticked = True
            yield from self._advance(side)

    def _on_upstream_lost(self) -> Iterator[Command]:
        upstream = self._upstream
        if upstream.leg.state in {State.IDLE, State.CONNECTING}:
            return  # the end of a try that was dropped, a moment late
        upstream.gone = True
        if self.finished:
            if not upstream.leg.closed:
                upstream.leg.move(Trigger.CLOSE)
        elif upstream.leg.state is State.UPGRADING:
            self._redials.reached += 1
            yield from self._redial("lost")
        elif upstream.close is None:  # otherwise its Close came first: what it said is its answer
            yield from self._upstream_fell("lost", again=self._redials.close_allows(LOST))

    # -- the client leaves early ----------------------------------------------------------------------------

    def _on_client_lost(self) -> Iterator[Command]:
        client = self._client
        client.gone = True
        if not self.finished:
            if client.close is None:
                self._learn_loss(client)
            yield from self._on_client_leaving()

    def _on_client_leaving(self) -> Iterator[Command]:
        """Go on for what it said; otherwise see to it that the upstream never trips over its absence."""
        client, upstream = self._client, self._upstream
        client.abort(self._at_ms)
        if client.leg.state is not State.IDLE and client.close is not None and not client.gone:
            yield CloseClient(*client.close)
        if client.early.size:
            yield from self._decide()
        elif upstream.leg.state in {State.IDLE, State.CONNECTING}:
            yield from self._give_up("the client left", _NOTHING, Outcome.ABANDONED)
        elif upstream.leg.state is not State.UPGRADING:  # it finishes its 101 first: accept() must not trip
            yield from self._let_depart()

    def _let_depart(self) -> Iterator[Command]:
        """Let the upstream go when it has gone quiet: nobody is left to talk to it."""
        client = self._client
        code, reason = client.close or (None, "")
        if self._told:
            code, reason = _GOING_AWAY, ""
        elif client.close is not None and not client.gone and not self._accepted:
            yield self._accept_client()
        yield self._depart(code, reason)
        if not self.finished:
            yield self._finish(Outcome.ABANDONED)

    # -- dial and redial ------------------------------------------------------------------------------------

    def _dial(self, after_ms: float) -> Iterator[Command]:
        self._attempt += 1
        self._upstream.leg.move(Trigger.DIAL)
        yield Dial(self._attempt, after_ms)

    def _depart(self, code: int | None, reason: str = "") -> Command:
        """Let go of an upstream that had sent its 101: politely if it is still there."""
        upstream = self._upstream
        upstream.abort(self._at_ms)
        if self._told:  # nothing of a client that is told of a failure is delivered behind its back
            self._client.early.clear()
        upstream.leg.move(Trigger.CLOSE if upstream.gone else Trigger.DEPART)
        return DropUpstream() if upstream.gone else DepartUpstream(code, reason)

    def _upstream_fell(self, cause: str, *, again: bool = True) -> Iterator[Command]:
        """The upstream was lost after its 101, or closed as one that may be tried again."""
        self._learn_loss(self._upstream)
        self._upstream.abort(self._at_ms)
        yield DropUpstream()
        yield from self._redial(cause, again=again)

    def _learn_loss(self, side: Side) -> None:
        """Tell the learned window of this leg how soon after its validation it was lost."""
        if side.stages:
            since = side.stages.validated_ms
            age_ms = None if since is None else self._at_ms - since
            self._windows[side.leg.role].lost(age_ms, self._at_ms)

    def _redial(self, cause: str, *, again: bool = True) -> Iterator[Command]:
        """This try failed before the gate opened: forget what it said and try again after a while."""
        upstream = self._upstream
        if self.finished or (self._client.left and not self._client.early.size):
            upstream.leg.move(Trigger.CLOSE)
            if not self.finished:
                yield from self._give_up("the client left", _NOTHING, Outcome.ABANDONED)
        elif self._redials.exhausted or not again:
            self._cause = cause
            upstream.leg.move(Trigger.CLOSE)
            yield from self._give_up("the backend did not stay up", _TRY_AGAIN_LATER, Outcome.FAILED)
        else:
            self._windows[UPSTREAM].doubt()
            after_ms = self._redials.next_after_ms(cause)
            upstream.leg.move(Trigger.REDIAL)
            if upstream.stages:
                self._past_stages += upstream.stages.records
            upstream.early.clear()
            self._sides[UPSTREAM] = self._fresh(upstream.leg)
            yield from self._dial(after_ms)

    # -- stages ---------------------------------------------------------------------------------------------

    def _start_stages(self, side: Side, *, acked: bool = False, tail: bytes = b"") -> Iterator[Command]:
        """Begin a leg's stages.

        `acked`: the upstream's 101 itself shows that our request arrived. `tail`: what it said with its 101.
        """
        role = side.leg.role
        plan = self._plan.leg(role)
        announcement = None
        if plan.announcement is not None:
            announcement = side.walker.tap = Announcement(plan.match)
        nonce = self._nonce()
        side.walker.expect_pong(nonce)
        side.stages = Stages(
            side.leg,
            plan,
            self._windows[role],
            announcement,
            attempt=self._attempt,
            measurable=self._measurable(role),
            nonce=nonce,
            at_ms=self._at_ms,
        )
        side.stages.acked = acked
        side.stages.deaf = side.early.full
        if tail and side.hold(tail, self._at_ms):
            yield PauseReading(role)
        if side.close is None:
            yield from side.stages.begin(self._at_ms)
        else:
            yield from self._on_upstream_close(side)

    def _advance(self, side: Side) -> Iterator[Command]:
        if side.stages is None or side.leg.stage is None or self.finished:
            return
        if side is self._client and side.left:
            return
        yield from side.stages.advance(self._at_ms)
        if not side.stages.failed:
            yield from self._decide()
        elif side is self._client:
            yield from self._close_accepted(_TRY_AGAIN_LATER, "the client did not prove ready")
        else:
            yield DropUpstream()
            yield from self._redial(f"{side.leg.stage}_expired")

    # -- decisions ------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Side:
        return self._sides[CLIENT]

    @property
    def _upstream(self) -> Side:
        return self._sides[UPSTREAM]

    def _accept_client(self) -> AcceptClient:
        self._accepted = True
        return AcceptClient(self._agreed[0] if self._agreed else None)

    def _decide(self) -> Iterator[Command]:
        """See whether the next great step is due: accept the client, open the gate, or depart."""
        client, upstream = self._client, self._upstream
        if self.finished or not upstream.leg.ready:
            return
        if client.left:
            yield from self._let_depart()
        elif not self._accepted:
            yield self._accept_client()
        elif client.leg.ready:
            client.leg.move(Trigger.OPEN)
            upstream.leg.move(Trigger.OPEN)
            client.walker.tap = upstream.walker.tap = None
            yield OpenGate()
            yield self._finish(self._opened_as())

    def _opened_as(self) -> Outcome:
        close = self._upstream.close
        if close is not None:
            return Outcome.READY if close[0] in _NORMAL else Outcome.REJECTED
        records = [r for side in self._sides.values() if side.stages for r in side.stages.records]
        unproven = any(r.outcome is StageOutcome.EXPIRED for r in records)
        return Outcome.READY_UNPROVEN if unproven else Outcome.READY

    def _give_up(self, reason: str, code: int, outcome: Outcome) -> Iterator[Command]:
        """No (further) try can help: answer the client with what there is to say."""
        if self.finished:
            return
        if self._client.left and (self._upstream.leg.stage or self._upstream.leg.ready):
            yield from self._let_depart()  # nobody is left to be told: what it said is delivered after all
            return
        if self._accepted and not self._client.left:
            answered = f"upstream answered {self._status}"
            yield from self._close_accepted(code, reason if self._status is None else answered, outcome)
            return
        self._told = not self._client.gone and not self._accepted
        yield from self._release_upstream()
        yield from self._answer_client(reason)
        yield self._finish(Outcome.ABANDONED if self._client.gone else outcome)

    def _answer_client(self, reason: str) -> Iterator[Command]:
        """Answer a client that has no 101 with an HTTP response: the upstream's last one, or our own."""
        if self._client.gone or self._accepted:
            return
        if self._status is None:
            self._status = 503
            yield RefuseClient(reason)
        else:
            yield MirrorResponse()

    def _close_accepted(self, code: int, reason: str, outcome: Outcome = Outcome.FAILED) -> Iterator[Command]:
        """End a client that has its 101 with a Close, which tells it that what it said was not delivered."""
        self._client.abort(self._at_ms)
        self._told = True
        yield from self._release_upstream()
        yield CloseClient(code, reason)
        yield self._finish(outcome, code)

    def _release_upstream(self) -> Iterator[Command]:
        """Let go of the upstream: at once if it knows nothing yet, politely otherwise."""
        upstream = self._upstream
        if upstream.leg.state in {State.IDLE, State.CONNECTING}:
            yield DropUpstream()
            upstream.leg.move(Trigger.CLOSE)
        elif upstream.leg.state is not State.UPGRADING and not upstream.leg.closed:
            yield self._depart(_GOING_AWAY)

    def _finish(self, outcome: Outcome, close_code: int | None = None) -> Finish:
        self.finished = True
        stages = list(self._past_stages)
        for side in (self._upstream, self._client):
            if side.stages:
                stages += side.stages.records
        return Finish(
            HandshakeReport(
                outcome=outcome,
                status=101 if self._accepted else None if self._client.gone else self._status,
                redials=tuple(self._redials.causes),
                stages=tuple(stages),
                early_client=self._client.count(),
                early_upstream=self._upstream.count(),
                close_code=close_code,
                cause=self._cause,
            )
        )
