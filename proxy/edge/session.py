"""One session: carries out the core's commands until the gate opens, then keeps the two legs joined.

While the gate is closed everything that a leg says or suffers becomes an event for `core.handshake`, and the
commands that come back are done here, in order. Once the gate is open `Joined` takes over and all that the
handshake needed is let go, so that an idle session costs little.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import partial
from sys import intern
from typing import TYPE_CHECKING, Final

from proxy.core import commands as do
from proxy.core import events
from proxy.core.frames import PING, close_frame, close_payload, frame
from proxy.core.leg import State
from proxy.core.plan import Role
from proxy.core.report import HandshakeReport, Outcome
from proxy.edge.acked import all_acked
from proxy.edge.departing import Departing
from proxy.edge.joined import Joined
from proxy.edge.relay import HANDED_ON, Held, Relay
from proxy.edge.shared import after_poll, mask_key, now_ms
from proxy.edge.switching import eager_response, mirrored_response
from proxy.edge.takeover import Inbound
from proxy.edge.tries import Tries

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web

    from proxy.core.events import Event
    from proxy.core.handshake import Handshake
    from proxy.edge.dial import Response
    from proxy.edge.shared import Shared
    from proxy.edge.switching import Offer
    from proxy.edge.watch import Expiry
    from proxy.policy import Route
    from proxy.telemetry.session_trace import SessionTrace
    from proxy.telemetry.traces import HandshakeTrace

_log = logging.getLogger("readygate.session")
_ids = itertools.count(1)
# How long a client may take to answer our Close, or to take what is still written to it.
_LINGER_S: Final = 5.0
_SERVICE_RESTART: Final = 1012


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a client whose gate never opened: the upstream's response, or our 503 with a reason."""

    response: Response | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LegView:
    """One leg as the admin listener shows it: its state, what it has said, what is held of it.

    `unsent_bytes` of what was written to it still wait: its peer does not take them.
    """

    state: State
    messages: int
    bytes: int
    early_bytes: int
    unsent_bytes: int


class Session:
    """One client connection from its upgrade request until both legs are closed."""

    __slots__ = (
        "_accepted", "_answer", "_client", "_closing", "_departing", "_events", "_expiry", "_handshake",
        "_inbound", "_linger", "_shared", "_timer", "_trace", "_tries", "_upstream",
        "client_address", "id", "joined", "redials", "route", "started_ms",
    )  # fmt: skip

    def __init__(
        self,
        shared: Shared,
        request: web.BaseRequest,
        route: Route,
        offer: Offer,
        trace: HandshakeTrace,
        client_address: str,
        expiry: Expiry | None = None,
    ) -> None:
        self.id = next(_ids)
        self.route = route
        self.started_ms = now_ms()
        self.client_address = intern(client_address)
        self.redials = 0
        self.joined: Joined | None = None
        self._expiry = expiry
        self._linger: asyncio.TimerHandle | None = None
        self._shared = shared
        self._trace = trace
        self._handshake: Handshake | None = shared.handshake(route)
        self._events: list[Event] = []  # the first is being carried out
        self._answer: asyncio.Future[Refusal | None] | None = shared.loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._tries: Tries | None = Tries(shared, route, trace, offer, self)
        self._accepted: Response | None = None  # the upstream's 101
        self._upstream: Held | None = None
        self._departing: Departing | None = None
        self._closing = False
        self._client = Held(Role.CLIENT, self)
        self._inbound: Inbound | None = Inbound(request, self._client)
        self._client.transport = self._inbound.transport
        self._client.writing_paused = self._inbound.writing_paused

    async def open(self) -> Refusal | None:
        """Run the handshake. Return the refusal that aiohttp is to send, or None: the connection is ours."""
        self._shared.add(self)
        assert self._inbound is not None
        assert self._tries is not None
        assert self._answer is not None
        answer, tail = self._answer, self._inbound.tail
        self._feed(events.UpgradeRequested(self.started_ms, self._tries.offer.subprotocols))
        if tail:
            self._feed(events.BytesReceived(now_ms(), Role.CLIENT, tail))
        if self._client.transport is None or self._client.transport.is_closing():
            self._client.connection_lost(None)
        return await answer

    @property
    def path(self) -> str:
        """What the client asked for, redacted."""
        return self._trace.subject.target

    @property
    def trace_id(self) -> str:
        """The trace of its handshake, in hex."""
        return self._trace.trace_id

    def leg(self, role: Role) -> LegView:
        """Return how one leg is doing."""
        if self.joined is not None:
            relay = self.joined.client if role is Role.CLIENT else self.joined.upstream
            unsent = relay.transport.get_write_buffer_size()
            state = self.joined.state(role)
            return LegView(state, relay.walker.messages, relay.walker.payload_bytes, 0, unsent)
        if self._handshake is None:
            return LegView(State.CLOSED, 0, 0, 0, 0)
        held, walker = self._leg(role), self._handshake.walker(role)
        unsent = held.transport.get_write_buffer_size() if held is not None and held.transport else 0
        early = self._handshake.early(role).size
        return LegView(self._handshake.state(role), walker.messages, walker.payload_bytes, early, unsent)

    def answered(self) -> None:
        """Note that the refusal was sent: aiohttp has the connection, and the rejection's may go."""
        if self._tries is not None:
            self._tries.release()
        self._client.connected = False
        self._check_over()

    def drain(self) -> None:
        """End this session because the gate stops."""
        if self.joined is not None:
            self.joined.end("drain", _SERVICE_RESTART)
        elif self._departing is None and self._handshake is not None and not self._handshake.finished:
            self._feed(events.DrainStarted(now_ms()))

    def hurry(self) -> None:
        """Tell an upstream that is departing now: the gate has no more time."""
        departing = self.joined or self._departing
        if departing is not None:
            departing.hurry()

    def abort(self) -> None:
        """End both legs at once, whatever they are doing."""
        if self._tries is not None:
            self._tries.stop()
            self._tries.release()
        if self.joined is not None:
            self.joined.abort()
        if self._departing is not None:
            self._departing.abort()
        for leg in (self._client, self._upstream):
            if leg is not None and leg.connected and leg.transport is not None:
                leg.transport.abort()

    # -- HeldOwner: what the legs say while the gate is closed ----------------------------------------------

    def leg_said(self, leg: Held, data: bytes) -> None:
        """Take bytes of a leg."""
        if leg is self._client or leg is self._upstream:
            self._feed(events.BytesReceived(now_ms(), leg.role, data))
            if self._closing and self._handshake and self._handshake.close(Role.CLIENT) is not None:
                self._close_client()

    def leg_lost(self, leg: Held, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """Take it that a leg is gone."""
        if leg is self._client or leg is self._upstream:
            self._feed(events.LegLost(now_ms(), leg.role))
        if leg is self._upstream:
            if not self._answer_is_held():
                self._drop_upstream()
        elif leg is self._client and self._inbound is not None:
            self._forget_inbound()

    def leg_gone(self, leg: Held) -> None:
        """Take it that a leg's transport is closed."""
        if leg is self._upstream and not self._answer_is_held():
            self._upstream = None
        self._check_over()

    def _answer_is_held(self) -> bool:
        """Whether the upstream is gone after a Close of its own, which the client has still to hear."""
        handshake = self._handshake
        return handshake is not None and not handshake.finished and handshake.close(Role.UPSTREAM) is not None

    # -- TryOwner -------------------------------------------------------------------------------------------

    def try_told(self, event: Event) -> None:
        """Take what happened to a try."""
        self._feed(event)

    def try_accepted(self, response: Response) -> Held:
        """Take the upstream's 101 and make the leg that is to have its connection."""
        self._accepted = response
        self._upstream = Held(Role.UPSTREAM, self)
        return self._upstream

    def try_ended(self) -> None:
        """Note that a try came to its end."""
        self._check_over()

    # -- the core's commands --------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        """Tell the core what happened and do what it says. What that brings about waits for its turn."""
        self._events.append(event)
        if len(self._events) > 1:
            return  # a command of an earlier event is being carried out
        try:
            while self._events and self._handshake is not None:
                for command in self._handshake.feed(self._events[0]):
                    self._do(command)
                del self._events[0]
        except Exception:  # noqa: BLE001 - one session's bug must not become another's
            _log.exception("session %d failed", self.id)
            self._fail()
        self._events.clear()

    def _fail(self) -> None:
        """End a session that a bug of ours has left half-way: told, counted, and out of the way."""
        self.abort()
        self._forget_inbound()
        self._settle(None)
        if self._handshake is not None:
            report = HandshakeReport(Outcome.FAILED, None, (), (), cause="bug")
            try:
                self._trace.finish(report, now_ms())
            finally:
                self._over()

    def _do(self, command: do.Command) -> None:  # noqa: C901, PLR0912 - one row a command
        match command:
            case do.ArmTimer(at_ms=at_ms):
                self._arm(at_ms)
            case do.PollAcked(role=role):
                after_poll(self._shared.loop, partial(self._poll_acked, role))  # what we wrote is out by then
            case do.SendPing(role=role, nonce=nonce):
                mask = mask_key() if role is Role.UPSTREAM else None
                self._write(self._leg(role), frame(PING, nonce, mask=mask))
            case do.PauseReading(role=role):
                leg = self._leg(role)
                if leg is not None and leg.transport is not None:
                    leg.transport.pause_reading()
            case do.Dial(attempt=attempt, after_ms=after_ms):
                assert self._tries is not None
                self.redials = attempt - 1
                self._tries.start(attempt, after_ms)
            case do.DropUpstream():
                assert self._tries is not None
                self._tries.stop()
                self._drop_upstream()
            case do.AcceptClient(subprotocol=subprotocol):
                self._accept_client(subprotocol)
            case do.MirrorResponse():
                assert self._tries is not None
                self._refuse(Refusal(self._tries.rejection))
            case do.RefuseClient(reason=reason):
                self._refuse(Refusal(None, reason))
            case do.CloseClient(code=code, reason=reason):
                self._write(self._client, close_frame(code, reason))
                self._closing = True
                if self._handshake is not None and self._handshake.close(Role.CLIENT) is not None:
                    self._close_client()
                else:
                    self._linger = self._shared.loop.call_later(_LINGER_S, self._close_client)
            case do.OpenGate():
                self._open_gate()
            case do.DepartUpstream(code=code, reason=reason):
                self._depart_upstream(None if code is None else close_payload(code, reason))
            case do.Finish(report=report):
                if self._timer is not None:
                    self._timer.cancel()
                if self.joined is None:
                    self._trace.finish(report, now_ms())
                else:  # a turn later: what was said too early goes out first, its receiver need not wait
                    self._shared.loop.call_soon(self._trace.finish, report, now_ms())
                self._shared.decided(self)
                self._settle(None)
                self._let_go()

    def _leg(self, role: Role) -> Held | None:
        return self._client if role is Role.CLIENT else self._upstream

    def _write(self, leg: Held | None, data: bytes) -> None:
        if leg is not None and leg.transport is not None and not leg.transport.is_closing():
            leg.transport.write(data)

    def _poll_acked(self, role: Role) -> None:
        leg = self._leg(role)
        if leg is not None and leg.transport is not None and all_acked(leg.transport):
            self._feed(events.BytesAcked(now_ms(), role))

    def _arm(self, at_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._shared.loop.call_later(max(at_ms - now_ms(), 0.0) / 1000, self._timer_due)

    def _timer_due(self) -> None:
        after_poll(self._shared.loop, self._timer_fired)

    def _timer_fired(self) -> None:
        self._feed(events.TimerFired(now_ms()))

    def _settle(self, refusal: Refusal | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(refusal)

    # -- the client leg -------------------------------------------------------------------------------------

    def _accept_client(self, subprotocol: str | None) -> None:
        """Write the 101; from here on the connection is ours."""
        started_ms = now_ms()
        tries = self._tries
        assert tries is not None
        if self._accepted is not None:
            head = mirrored_response(self._accepted)
        else:
            head = eager_response(tries.offer, subprotocol)
            tries.offer = tries.offer.agreed(subprotocol)
        self._forget_inbound()
        self._write(self._client, head)
        at_ms = now_ms()
        self._trace.accept_ended(started_ms, at_ms)
        self._feed(events.ClientAccepted(at_ms))

    def _refuse(self, refusal: Refusal) -> None:
        if self._inbound is not None:
            self._inbound.give_back()
            self._inbound = None
        self._settle(refusal)

    def _forget_inbound(self) -> None:
        if self._inbound is not None:
            self._inbound.forget()
            self._inbound = None

    def _close_client(self) -> None:
        """End the client's connection; abort it if it does not take what was written."""
        if self._linger is not None:
            self._linger.cancel()
        transport = self._client.transport
        if transport is not None and self._client.connected:
            transport.close()
            self._linger = self._shared.loop.call_later(_LINGER_S, transport.abort)

    # -- the upstream leg -----------------------------------------------------------------------------------

    def _drop_upstream(self) -> None:
        leg, self._upstream = self._upstream, None
        if leg is not None and leg.transport is not None:
            leg.release()
            leg.transport.abort()

    # -- the gate -------------------------------------------------------------------------------------------

    def _open_gate(self) -> None:
        """Flush the early bytes both ways, in order, and join the legs."""
        started_ms = now_ms()
        handshake, trace, upstream = self._handshake, self._trace, self._upstream
        assert handshake is not None
        assert upstream is not None
        from_upstream = handshake.early(Role.UPSTREAM).take()
        from_client = handshake.early(Role.CLIENT).take()
        self._write(self._client, from_upstream)
        self._write(upstream, from_client)
        at_ms = now_ms()
        trace.flush_ended(started_ms, at_ms, len(from_client), len(from_upstream))
        session = trace.session(at_ms, handshake.walker(Role.CLIENT), handshake.walker(Role.UPSTREAM))
        self.joined = self._join(handshake, upstream, session, asked=bool(from_client))

    def _join(self, handshake: Handshake, upstream: Held, trace: SessionTrace, *, asked: bool) -> Joined:
        shared = self._shared
        joined = Joined(
            shared.loop,
            (self._client, upstream),
            (handshake.walker(Role.CLIENT), handshake.walker(Role.UPSTREAM)),
            self.route.settings,
            trace,
            (
                shared.windows(self.route)[Role.UPSTREAM],
                handshake.validated_ms(Role.UPSTREAM),
                shared.quiet(self.route),
            ),
            self._over,
            asked=asked,
            age_ms=now_ms() - self.started_ms,
            expiry=self._expiry,
            answers=(handshake.answered(Role.CLIENT), handshake.answered(Role.UPSTREAM)),
            measurable=shared.measurable,
        )
        close = handshake.close(Role.UPSTREAM)
        if close is not None:
            joined.upstream_closed(close_payload(*close))
            if not upstream.connected:  # it said its last and is gone
                joined.upstream.connection_lost(None)
        return joined

    def _depart_upstream(self, goodbye: bytes | None) -> None:
        """Deliver what the client said before it left, and see the upstream off."""
        handshake, upstream = self._handshake, self._upstream
        assert handshake is not None
        if upstream is None or upstream.transport is None:
            return
        words = handshake.early(Role.CLIENT).take_whole()
        self._write(upstream, words)
        leg = Relay(Role.UPSTREAM, upstream.transport, handshake.walker(Role.UPSTREAM))
        upstream.transport.set_protocol(leg)
        upstream.release()
        plan, quiet = self.route.settings.departure, self._shared.quiet(self.route)
        loop, asked = self._shared.loop, bool(words)
        # One that has said its Close need not answer pings any more (RFC 6455 5.5.2).
        answers = bool(handshake.answered(Role.UPSTREAM)) and handshake.close(Role.UPSTREAM) is None
        self._departing = Departing(
            loop, leg, plan, quiet, goodbye, answers=answers, asked=asked, done=self._departed
        )
        self._departing.discard()
        self._departing.start()

    def _departed(self) -> None:
        assert self._departing is not None
        self._shared.telemetry.metrics.departed(self._departing.facts(), "early", self.route.pattern)
        self._departing.leg.release()
        self._departing = None
        self._upstream = None
        self._check_over()

    # -- the end --------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Free what only the handshake needed."""
        if self.joined is not None:
            self._handshake = self._tries = self._accepted = self._timer = self._upstream = self._answer = (
                None
            )
            self._client = HANDED_ON
            return
        if self._tries is not None:
            if self._answer is None or self._answer.result() is None:
                self._tries.release()  # nobody wants the rejection
            # An upgrade that is still under way is let finish (accept() must not trip), but not for ever.
            self._tries.limit(self.route.settings.departure.longest_ms / 1000)
        self._check_over()

    def _check_over(self) -> None:
        """End the session once it is decided and no leg is left."""
        if self.joined is not None or self._handshake is None or not self._handshake.finished:
            return
        trying = self._tries is not None and self._tries.under_way
        if not (self._client.connected or self._upstream is not None or trying):
            self._over()

    def _over(self) -> None:
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        self._client.release()
        if self._handshake is not None:
            self._handshake.forget_early()
        self.joined = self._timer = self._linger = self._tries = self._handshake = None
        self._shared.forget(self)
