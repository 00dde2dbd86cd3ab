"""The span of an open session, `websocket.session`: a trace of its own, linked with its handshake's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.core.frames import FrameWalker
from proxy.telemetry import attributes as attrs
from proxy.telemetry.spans import Identified

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from proxy.telemetry.facts import Said, SessionReport
    from proxy.telemetry.telemetry import Telemetry
    from proxy.telemetry.traces import HandshakeTrace

SILENT: Final = FrameWalker()  # of a leg whose words nobody counts


class SessionTrace(Identified):
    """The trace of one open session. Call `finish` exactly once, when both legs are closed.

    `said`: what counts what the client and the upstream say.
    """

    __slots__ = (
        "_finished",
        "_handshake",
        "_recorded",
        "_started_ms",
        "_telemetry",
        "said",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        handshake: HandshakeTrace,
        context: SpanContext,
        at_ms: float,
        *,
        recorded: bool,
        said: tuple[Said, Said],
    ) -> None:
        super().__init__(context)
        self.said = said
        self._telemetry = telemetry
        self._handshake = handshake
        self._recorded = recorded
        self._started_ms = at_ms
        self._finished = False

    @property
    def handshake(self) -> HandshakeTrace:
        """The handshake that opened the session."""
        return self._handshake

    def replied(self, at_ms: float) -> None:
        """Note when the upstream's first message passed the open gate."""
        self._handshake.replied_ms = at_ms

    def finish(self, report: SessionReport, at_ms: float) -> None:
        """End the session: span, counts, the close line, listeners."""
        if self._finished:
            return
        self._finished = True
        if self._recorded and self._telemetry.recorder.admits(1):
            told = attrs.of_session(self._handshake.subject, report)
            self._telemetry.recorder.emit(
                "websocket.session",
                self._context,
                None,
                told,
                self._started_ms,
                at_ms,
                status=attrs.status(told),
                links=(self._handshake.link(),),
            )
        self._telemetry.session_finished(self, report, at_ms - self._started_ms)
