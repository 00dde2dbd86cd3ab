"""An open session: two joined legs, and the rare things that happen to them until both are closed.

It ends in one of three ways. The client leaves, or the gate ends the session: the client has its Close at
once, the upstream departs (`Departing`). The upstream closes: its Close and the client's answer pass through.
The upstream is lost: the client is told, where a frame ends.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.frames import CLOSE, TOO_BIG, close_payload, frame, parse_close
from proxy.core.leg import State
from proxy.core.pace import Pace
from proxy.core.plan import Role
from proxy.edge.before import Finisher, Pacer, ReplyTimer
from proxy.edge.departing import Departing
from proxy.edge.ends import end
from proxy.edge.relay import Relay
from proxy.edge.shared import mask_key, now_ms
from proxy.edge.watch import Watch
from proxy.telemetry import SessionReport, Traffic

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.departure import LearnedQuiet
    from proxy.core.frames import Control, FrameWalker
    from proxy.edge.relay import Held
    from proxy.edge.watch import Expiry
    from proxy.policy import Settings
    from proxy.telemetry import EndedBy, EndReason
    from proxy.telemetry.session_trace import SessionTrace

# How long a leg may take to close after the other one ended, or to take what is still written to it.
_LINGER_S: Final = 10.0
_GOING_AWAY: Final = 1001
_TOO_BIG: Final = close_payload(1009, "message too big")


class Joined:
    """Two relays and what is remembered of them. `done` is called when both legs are closed."""

    __slots__ = (
        "_departing", "_done", "_eof", "_linger", "_loop", "_open", "_quiet", "_settings", "_tell", "_told",
        "_trace", "_validated_ms", "_watch", "_window", "client", "codes", "ended_by", "reason", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        legs: tuple[Held, Held],
        walkers: tuple[FrameWalker, FrameWalker],
        settings: Settings,
        trace: SessionTrace,
        learn: tuple[LearnedWindow, float | None, LearnedQuiet],
        done: Callable[[], None],
        *,
        asked: bool = False,
        age_ms: float = 0.0,
        expiry: Expiry | None = None,
        answers: tuple[bool | None, bool | None] = (True, True),
        measurable: bool = True,
    ) -> None:
        """Join them.

        `asked`: whether something of the client's has just been delivered; `age_ms`: for how long the session
        exists; `expiry`: when its token ends; `answers`: which legs answered our ping.
        """
        client, upstream = legs
        assert client.transport is not None
        assert upstream.transport is not None
        self._loop = loop
        self._settings = settings
        self._trace = trace
        self._window, self._validated_ms, self._quiet = learn
        self._done = done
        self._eof: tuple[Role, ...] = ()
        self._open = 2
        self._linger: asyncio.TimerHandle | None = None
        self._tell: bytes | None = None  # payload of the Close that the client has still to get
        self._told: int | None = None  # the code of our own Close to the client
        self._departing: Departing | None = None
        self.codes: dict[Role, int] = {}
        self.ended_by: EndedBy | None = None
        self.reason: EndReason = "closed"
        self.client = Relay(Role.CLIENT, client.transport, walkers[0], self)
        self.upstream = Relay(Role.UPSTREAM, upstream.transport, walkers[1], self)
        if asked:
            self.client.said_s = monotonic()  # later than the upstream, which is to reply
        self.client.join(self.upstream, writing_paused=upstream.writing_paused)
        self.upstream.join(self.client, writing_paused=client.writing_paused)
        self._take_places()
        self._watch = Watch(
            loop, self, settings, age_ms=age_ms, expiry=expiry, answers=answers, measurable=measurable
        )
        for leg in (self.client, self.upstream):
            if leg.walker.too_big:  # since before the gate opened
                self._too_big(leg)

    def _take_places(self) -> None:
        """Become the protocols of both transports."""
        limits = self._settings.limits
        if limits.messages_per_s is None:
            self.client.transport.set_protocol(self.client)
        else:
            Pacer(self.client, Pace(limits.messages_per_s), self._loop)
        ReplyTimer(self.upstream, self.client, self._quiet, self._trace.replied)

    def time_replies(self) -> None:
        """Learn from the next few exchanges how long this route's replies take."""
        ReplyTimer(self.upstream, self.client, self._quiet)

    # -- RelayOwner -----------------------------------------------------------------------------------------

    def control_passed(self, leg: Relay) -> None:
        """Act on a Close, on our own pongs, on a message that is too big. The rest is the endpoints' own."""
        notices = leg.walker.notices[:]
        leg.walker.notices.clear()
        for notice in notices:
            if notice.own:
                self._watch.ponged(leg.role)
            elif notice.opcode == TOO_BIG:
                self._too_big(leg)
            elif notice.opcode == CLOSE and leg.role not in self.codes:
                self._said_goodbye(leg, notice)

    def eof_passed(self, leg: Relay) -> bool:
        """End what this leg's end ends; return whether its transport stays open for writing."""
        self._eof += (leg.role,)
        if self._departing is not None:
            return False  # the client, whose end was known or made by us
        if leg.role not in self.codes:
            self._fell(leg, "eof")
            return False
        other = self._other(leg)
        if other.role in self._eof or other.transport.is_closing():
            other.transport.close()
            return False
        return self._end_writing(other)

    def relay_lost(self, leg: Relay, exc: Exception | None) -> None:
        """End the other leg, too; when both are gone, so is the session."""
        self._open -= 1
        if self._departing is not None:
            self._departing.discard()
        elif leg.role not in self.codes and leg.role not in self._eof:
            self._fell(leg, "eof" if exc is None else "reset")
        elif self._open and leg.role in self.codes:
            self._close_after(leg)
        self._check_over()

    # -- the client leaves, or is made to -------------------------------------------------------------------

    def end(self, reason: EndReason, code: int) -> None:
        """End the session by our own will: the client gets a Close with `code`, the upstream departs."""
        if self.ended_by is None:
            self._ended("gate", reason)
            self._told = code
            self._part(close_payload(_GOING_AWAY), tell=close_payload(code))

    def dead(self, role: Role) -> None:
        """Take it that a leg's peer is there no more, though its connection does not say so."""
        if self.ended_by is None:
            self._fell(self.client if role is Role.CLIENT else self.upstream, "keepalive")

    def hurry(self) -> None:
        """Tell an upstream that is departing now, quiet or not: the gate has no more time."""
        if self._departing is not None:
            self._departing.hurry()

    def abort(self) -> None:
        """End both legs at once."""
        self.client.transport.abort()
        self.upstream.transport.abort()

    def _said_goodbye(self, leg: Relay, notice: Control) -> None:
        """Act on the first Close of a leg."""
        if leg is self.upstream:
            self.upstream_closed(notice.payload)
            return
        code, _ = parse_close(notice.payload)
        self._note_close(Role.CLIENT, code)
        if self.ended_by == "client" and self._departing is None:
            self._part(notice.payload, tell=notice.payload)
        elif self._tell is None and (self._departing is not None or Role.UPSTREAM in self._eof):
            self._end_client()  # it has answered our own
        elif leg.walker.too_big and self._departing is None:  # its answer to the upstream's does not pass
            self.upstream.transport.write(frame(CLOSE, notice.payload, mask=mask_key()))

    def upstream_closed(self, payload: bytes) -> None:
        """Take the upstream's Close, which has passed, or is behind a message that was too big."""
        code, _ = parse_close(payload)
        self._note_close(Role.UPSTREAM, code)
        if self._departing is not None:
            self._departing.upstream_closed(payload)

    def _note_close(self, role: Role, code: int) -> None:
        self.codes[role] = code
        if self.ended_by is not None:
            return
        self._ended("client" if role is Role.CLIENT else "upstream", "closed")
        if role is Role.UPSTREAM:
            self.client.walker.hold_close = False  # the answer passes as it is
            self._start_linger()
            if code in self._settings.handshake.redial.close_codes:
                self._learn()

    def _too_big(self, leg: Relay) -> None:
        """Close 1009 to the sender of a message over the limit; its frame has gone no further."""
        if self.ended_by is not None:
            return
        self._ended("gate", "too_big")
        if leg is self.client:
            self._told = 1009
            self._part(close_payload(_GOING_AWAY), tell=_TOO_BIG)
        else:
            self._told = self._settings.handshake.lost_code
            self._part(_TOO_BIG, tell=close_payload(self._told), at_once=True)

    def _part(
        self, goodbye: bytes | None, *, tell: bytes | None = None, abrupt: bool = False, at_once: bool = False
    ) -> None:
        """Let the two legs end apart: the client now, by the Close `tell`, the upstream when it is quiet."""
        self._departing = Departing(
            self._loop,
            self.upstream,
            self._settings.departure,
            self._quiet,
            goodbye,
            abrupt=abrupt,
            at_once=at_once,
            answers=self._watch.answers(Role.UPSTREAM),
            client=self.client,
            done=self._departed,
        )
        self._tell = tell
        self.time_replies()  # the late ones teach most
        if tell is None:
            self._departing.discard()
        elif self.upstream.walker.at_boundary:
            self._say_goodbye()
        else:
            Finisher(self.upstream, self._say_goodbye)
            self._start_linger()
        self._departing.start()

    def _say_goodbye(self) -> None:
        """Write the client its Close: a frame ends here. Then wait for its own, if it is not here yet."""
        assert self._departing is not None
        self._departing.discard()
        payload, self._tell = self._tell, None
        if payload is not None and not self.client.transport.is_closing():
            self.client.transport.write(frame(CLOSE, payload))
        if Role.CLIENT in self.codes:
            self._end_client()
        else:
            self._start_linger()

    def _end_client(self) -> None:
        """RFC 6455 7.1.1: the server closes the connection, once both have said their Close."""
        if self._linger is not None:
            self._linger.cancel()
        self._linger = end(self._loop, self.client.transport, _LINGER_S)

    def _departed(self) -> None:
        """Take it that the upstream is gone."""
        assert self._departing is not None
        self._open -= 1
        code = self._departing.upstream_code
        if code is not None:
            self.codes[Role.UPSTREAM] = code
        if self._tell is not None and self._open:
            self._tell = None  # it fell inside a frame: nothing of ours may go in
            self._end_client()
        self._check_over()

    # -- a leg ends without a Close -------------------------------------------------------------------------

    def _fell(self, leg: Relay, reason: EndReason) -> None:
        """A leg ended without a Close. The first to end is the cause."""
        if leg.role not in self._eof:
            self._eof += (leg.role,)
        first = self.ended_by is None
        if first:
            self._ended("client" if leg is self.client else "upstream", reason)
        if leg is self.client:
            if first:
                self._part(None, abrupt=reason == "reset")
            else:  # the upstream has closed already
                self.upstream.transport.close()
                self._start_linger()
            if reason == "keepalive":
                leg.transport.abort()
            return
        self._upstream_fell(first=first)
        if reason == "keepalive":
            leg.transport.abort()

    def _upstream_fell(self, *, first: bool) -> None:
        self.upstream.mute()
        self.client.mute()
        if first:
            self._learn()
        if not self.upstream.walker.at_boundary:  # inside a frame nothing of ours may go in
            self.client.transport.close()
            self._start_linger()
            return
        if first and not self.client.transport.is_closing():
            self._told = self._settings.handshake.lost_code
            self.client.transport.write(frame(CLOSE, close_payload(self._told)))
        self._end_writing(self.client)

    def _close_after(self, leg: Relay) -> None:
        """Close the leg that is left, after one that has ended properly."""
        other = self._other(leg)
        leg.mute()
        other.mute()
        if leg.role in self.codes and other.role not in self._eof:
            self._end_writing(other)
        else:
            other.transport.close()
            self._start_linger()

    def _end_writing(self, leg: Relay) -> bool:
        """Write no more to this leg, but read on until its peer ends, too; return whether that is possible.

        A close with bytes unread would be a reset, and might cost the peer what was written last.
        """
        self._start_linger()
        self._other(leg).mute()
        if leg.transport.is_closing():
            return False
        if not leg.transport.can_write_eof():  # TLS: it has to end by itself, or when it has lingered
            return True
        try:
            leg.transport.write_eof()
        except OSError:  # its peer has reset it this very moment
            leg.transport.abort()
            return False
        return True

    # -- Watched --------------------------------------------------------------------------------------------

    def ping(self, role: Role) -> None:
        """Ping a leg; its pong is cut out of what it says."""
        (self.client if role is Role.CLIENT else self.upstream).ping()

    # -- the end --------------------------------------------------------------------------------------------

    def state(self, role: Role) -> State:
        """Return where a leg is."""
        if role is Role.UPSTREAM and self._departing is not None:
            over = self._departing.upstream_code is not None or self.upstream.transport.is_closing()
            return State.CLOSED if over else State.DEPARTING
        relay = self.client if role is Role.CLIENT else self.upstream
        return State.CLOSED if role in self.codes or relay.transport.is_closing() else State.OPEN

    def _ended(self, by: EndedBy, reason: EndReason) -> None:
        self.ended_by, self.reason = by, reason
        self._watch.stop()
        before = self.client.transport.get_protocol()
        if isinstance(before, Pacer):
            before.step_aside()

    def _other(self, leg: Relay) -> Relay:
        return self.upstream if leg is self.client else self.client

    def _learn(self) -> None:
        if self._validated_ms is not None:
            at_ms = now_ms()
            self._window.lost(at_ms - self._validated_ms, at_ms)

    def _start_linger(self) -> None:
        """Bound the time that the end may take, from the first reason for it on."""
        if self._linger is None:
            self._linger = self._loop.call_later(_LINGER_S, self._linger_over)

    def _linger_over(self) -> None:
        """Cut the client; the upstream, too, unless it departs on its own time."""
        self.client.transport.abort()
        if self._departing is None:
            self.upstream.transport.abort()

    def _check_over(self) -> None:
        if self._open:
            return
        if self._linger is not None:
            self._linger.cancel()
        try:
            self._trace.finish(self._report(), now_ms())
        finally:  # whatever becomes of what is told, the session is over
            self.client.release()
            self.upstream.release()
            self._departing = None
            self._done()

    def _report(self) -> SessionReport:
        return SessionReport(
            ended_by=self.ended_by or "gate",
            reason=self.reason,
            client_code=self.codes.get(Role.CLIENT, self._told),
            upstream_code=self.codes.get(Role.UPSTREAM),
            client=_traffic(self.client.walker),
            upstream=_traffic(self.upstream.walker),
            departure=self._departing.facts() if self._departing is not None else None,
        )


def _traffic(walker: FrameWalker) -> Traffic:
    return Traffic(walker.text, walker.binary, walker.text_bytes, walker.binary_bytes)
