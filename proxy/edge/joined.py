"""An open session: two joined legs, and the rare things that happen to them until both are closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from proxy.core.frames import CLOSE, close_frame, parse_close
from proxy.core.plan import Role
from proxy.edge.relay import Relay
from proxy.edge.shared import now_ms
from proxy.telemetry import SessionReport, Traffic

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.frames import FrameWalker
    from proxy.core.plan import HandshakePlan
    from proxy.edge.relay import Held
    from proxy.telemetry import SessionTrace

# How long a leg may take to close after the other one ended, or to take what is still written to it.
_LINGER_S: Final = 10.0

EndedBy = Literal["client", "upstream", "gate"]


class Joined:
    """Two relays and what is remembered of them. `done` is called when both legs are closed."""

    __slots__ = (
        "_done", "_eof", "_linger", "_loop", "_open", "_plan", "_told", "_trace", "_validated_ms", "_window",
        "client", "codes", "ended_by", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        legs: tuple[Held, Held],
        walkers: tuple[FrameWalker, FrameWalker],
        plan: HandshakePlan,
        trace: SessionTrace,
        learn: tuple[LearnedWindow, float | None],
        done: Callable[[], None],
    ) -> None:
        client, upstream = legs
        assert client.transport is not None
        assert upstream.transport is not None
        self._loop = loop
        self._plan = plan
        self._trace = trace
        self._window, self._validated_ms = learn
        self._done = done
        self._eof: tuple[Role, ...] = ()
        self._open = 2
        self._linger: asyncio.TimerHandle | None = None
        self._told: int | None = None  # the code of our own Close to the client
        self.codes: dict[Role, int] = {}
        self.ended_by: EndedBy | None = None
        self.client = Relay(Role.CLIENT, client.transport, walkers[0], self)
        self.upstream = Relay(Role.UPSTREAM, upstream.transport, walkers[1], self)
        self.client.join(self.upstream, writing_paused=upstream.writing_paused)
        self.upstream.join(self.client, writing_paused=client.writing_paused)
        client.transport.set_protocol(self.client)
        upstream.transport.set_protocol(self.upstream)

    # -- RelayOwner -----------------------------------------------------------------------------------------

    def control_passed(self, leg: Relay) -> None:
        """Remember the Close codes; pings and pongs of the endpoints are their own business."""
        for notice in leg.walker.notices:
            if notice.opcode == CLOSE and leg.role not in self.codes:
                self.note_close(leg.role, parse_close(notice.payload)[0])
        leg.walker.notices.clear()

    def note_close(self, role: Role, code: int) -> None:
        """Remember that this leg closed with `code`."""
        self.codes[role] = code
        if self.ended_by is None:
            self.ended_by = "client" if role is Role.CLIENT else "upstream"
            if role is Role.UPSTREAM and code in self._plan.redial.close_codes:
                self._learn()

    def eof_passed(self, leg: Relay) -> bool:
        """Pass the end of one direction on, if that leg closed properly; otherwise end the session."""
        self._eof += (leg.role,)
        if leg.role not in self.codes:
            self._leg_fell(leg)
            return False
        other = leg.other
        if other.role in self._eof or other.transport.is_closing():
            other.transport.close()
            return False
        return self._end_writing(other)

    def relay_lost(self, leg: Relay, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """End the other leg, too; when both are gone, so is the session."""
        self._open -= 1
        leg.other.mute()
        if leg.role not in self._eof and leg.role not in self.codes:
            self._leg_fell(leg)
        if self._open:
            if leg.role in self.codes and leg.other.role not in self._eof:
                self._end_writing(leg.other)
            else:
                leg.other.transport.close()
                self._start_linger()
            return
        if self._linger is not None:
            self._linger.cancel()
        self._trace.finish(self._report(), now_ms())
        self.client.release()
        self.upstream.release()
        self._done()

    # -- ends -----------------------------------------------------------------------------------------------

    def close(self, client_code: int, upstream_code: int, mask: bytes) -> None:
        """End both legs because the gate stops: a Close where a frame ends, and never after a Close."""
        self.ended_by = self.ended_by or "gate"
        if self.upstream.walker.at_boundary and Role.UPSTREAM not in self.codes:
            self._tell_client(client_code)
        if self.client.walker.at_boundary and Role.CLIENT not in self.codes:
            self.upstream.transport.write(close_frame(upstream_code, mask=mask))
        self._end_writing(self.client)
        self._end_writing(self.upstream)

    def abort(self) -> None:
        """End both legs at once."""
        self.client.transport.abort()
        self.upstream.transport.abort()

    def _leg_fell(self, leg: Relay) -> None:
        """A leg ended without a Close. The first to end is the cause: the other one is closed by us."""
        first = self.ended_by is None
        if first:
            self.ended_by = "client" if leg.role is Role.CLIENT else "upstream"
        if leg.role is Role.CLIENT or Role.UPSTREAM in self.codes:
            leg.other.transport.close()
            self._start_linger()
            return
        leg.other.mute()
        if first:
            self._learn()
        if leg.walker.at_boundary:
            # A client that said goodbye, and whose upstream went without a word, hears its own code.
            self._tell_client(self.codes.get(Role.CLIENT, self._plan.lost_code))
            self._end_writing(self.client)
        else:  # inside a frame nothing of ours may go in
            self.client.transport.close()
            self._start_linger()

    def _tell_client(self, code: int) -> None:
        """Write a Close of our own to the client."""
        if not self.client.transport.is_closing():
            self._told = code
            self.client.transport.write(close_frame(code))

    def _end_writing(self, leg: Relay) -> bool:
        """Write no more to this leg, but read on until its peer ends, too; return whether that is possible.

        A close with bytes unread would be a reset, and might cost the peer what was written last.
        """
        self._start_linger()
        leg.other.mute()
        if leg.transport.is_closing() or not leg.transport.can_write_eof():
            leg.transport.close()
            return False
        try:
            leg.transport.write_eof()
        except OSError:  # its peer has reset it this very moment
            leg.transport.abort()
            return False
        return True

    def _learn(self) -> None:
        if self._validated_ms is not None:
            at_ms = now_ms()
            self._window.lost(at_ms - self._validated_ms, at_ms)

    def _start_linger(self) -> None:
        if self._linger is None:
            self._linger = self._loop.call_later(_LINGER_S, self.abort)

    def _report(self) -> SessionReport:
        return SessionReport(
            ended_by=self.ended_by or "gate",
            client_code=self.codes.get(Role.CLIENT, self._told),
            upstream_code=self.codes.get(Role.UPSTREAM),
            client=_traffic(self.client.walker),
            upstream=_traffic(self.upstream.walker),
        )


def _traffic(walker: FrameWalker) -> Traffic:
    return Traffic(walker.text, walker.binary, walker.payload_bytes)
