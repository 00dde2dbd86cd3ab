"""An upstream whose client has left: it is read and not listened to until it is quiet, then it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.core.departure import Departure
from proxy.core.frames import CLOSE, close_frame, parse_close
from proxy.edge.shared import mask_key, now_ms

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.core.departure import DeparturePlan
    from proxy.core.frames import FrameWalker
    from proxy.edge.relay import Held

# RFC 6455 7.1.1: the server closes first; a client that has waited long enough may close at any time.
_CLOSING_S: Final = 5.0


class Departing:
    """Sees one upstream leg off. `code`: the client's Close code, None when it vanished without.

    `done` is called when the leg is gone. What the upstream still says is counted and discarded.
    """

    __slots__ = ("_code", "_departure", "_done", "_leg", "_loop", "_started_ms", "_timer", "_told", "_walker")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        leg: Held,
        walker: FrameWalker,
        plan: DeparturePlan,
        code: int | None,
        done: Callable[[], None],
    ) -> None:
        at_ms = now_ms()
        self._loop = loop
        self._leg = leg
        self._walker = walker
        self._code = code
        self._done = done
        self._told = False
        self._departure = Departure(plan, at_ms, at_ms)
        self._timer = loop.call_later(plan.quiet_ms / 1000, self._look)
        leg.hand_to(self)
        assert leg.transport is not None
        leg.transport.resume_reading()

    def leg_said(self, leg: Held, data: bytes) -> None:
        """Discard what nobody will hear; a Close is answered (RFC 6455 5.5.1)."""
        self._walker.feed(data)
        self._departure.heard(now_ms())
        for notice in self._walker.notices:
            if notice.opcode == CLOSE and leg.transport is not None:
                if not self._told:
                    code, _ = parse_close(notice.payload)
                    leg.transport.write(close_frame(code, mask=mask_key()))
                self._close(leg.transport)
        self._walker.notices.clear()

    def leg_lost(self, leg: Held, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is over
        """Close, too: the upstream has said its last."""
        self._close(leg.transport)

    def leg_gone(self, leg: Held) -> None:  # noqa: ARG002 - there is only one
        """End: its transport is closed."""
        self._timer.cancel()
        self._done()

    def end(self) -> None:
        """Stop waiting: the gate itself ends."""
        self._timer.cancel()
        if self._leg.transport is not None:
            self._leg.transport.abort()

    def _look(self) -> None:
        at_ms = now_ms()
        if not self._departure.over(at_ms):
            self._timer = self._loop.call_later((self._departure.due_ms - at_ms) / 1000, self._look)
            return
        transport = self._leg.transport
        assert transport is not None
        if self._code is None:
            self._close(transport)  # the same abnormal end that the client made
            return
        self._told = True
        transport.write(close_frame(self._code, mask=mask_key()))
        self._timer = self._loop.call_later(_CLOSING_S, transport.abort)

    def _close(self, transport: asyncio.Transport | None) -> None:
        """Close the connection when what was written is flushed; an upstream that does not read is cut."""
        self._timer.cancel()
        if transport is not None:
            transport.close()
            self._timer = self._loop.call_later(_CLOSING_S, transport.abort)
