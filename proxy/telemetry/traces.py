"""The spans of a session: `websocket.handshake` with its stages, then `websocket.session`.

All times are ms of the monotonic clock, as the core counts them. A trace that is not recorded costs an id and
a few method calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanKind

from proxy.core.report import Outcome, StageOutcome
from proxy.telemetry import attributes as attrs
from proxy.telemetry.facts import describe

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from proxy.core.report import HandshakeReport, StageRecord
    from proxy.telemetry.attributes import Attributes
    from proxy.telemetry.facts import RequestFacts, SessionReport, Subject
    from proxy.telemetry.telemetry import Telemetry

_SERVER_ERROR = 500
_OPENED = frozenset({Outcome.READY, Outcome.READY_UNPROVEN})


class _Try:
    """One running `upstream.connect` or `upstream.upgrade`."""

    __slots__ = ("attempt", "context", "name", "started_ms")

    def __init__(self, name: str, attempt: int, started_ms: float, context: SpanContext) -> None:
        self.name = name
        self.attempt = attempt
        self.started_ms = started_ms
        self.context = context


class HandshakeTrace:
    """The trace of one handshake. Call `finish` exactly once, whatever happens; later calls are ignored."""

    __slots__ = (
        "_context",
        "_finished",
        "_parent",
        "_recorded",
        "_request",
        "_running",
        "_session",
        "_started_ms",
        "_subject",
        "_telemetry",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        request: RequestFacts,
        at_ms: float,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        recorded: bool,
    ) -> None:
        self._telemetry = telemetry
        self._request: RequestFacts | None = request
        self._subject: Subject | None = None
        self._started_ms = at_ms
        self._context = context
        self._parent = parent
        self._recorded = recorded
        self._session: SpanContext | None = None
        self._running: dict[str, _Try] = {}
        self._finished = False

    @property
    def trace_id(self) -> str:
        """The trace's id, in hex."""
        return f"{self._context.trace_id:032x}"

    @property
    def span_id(self) -> str:
        """The span's id, in hex."""
        return f"{self._context.span_id:016x}"

    @property
    def sampled(self) -> bool:
        """Whether the trace is exported, by us or (with tracing off) by the caller."""
        return self._context.trace_flags.sampled

    @property
    def subject(self) -> Subject:
        """What may be told of the request, redacted."""
        if self._subject is None:
            assert self._request is not None
            self._subject = describe(self._request)
            self._request = None  # the headers are not kept for the length of a session
        return self._subject

    def auth_ended(
        self, started_ms: float, ended_ms: float, source: str, algorithm: str, outcome: str
    ) -> None:
        """Record `guard.auth`: checking the token, which was in `source`; `outcome` is a `guard.Reason`."""
        if self._recorded:
            self._child("guard.auth", attrs.of_auth(source, algorithm, outcome), started_ms, ended_ms)

    def connect_started(self, attempt: int, at_ms: float) -> None:
        """Open `upstream.connect` of a try (1 is the first)."""
        if self._recorded:
            self._start("upstream.connect", attempt, at_ms)

    def connect_ended(self, at_ms: float, error: str | None) -> None:
        """End `upstream.connect`; `error` is a cause such as `refused` or `timeout`, None when connected."""
        if self._recorded:
            self._end("upstream.connect", at_ms, None, error)

    def upgrade_started(self, attempt: int, at_ms: float) -> list[tuple[bytes, bytes]]:
        """Open `upstream.upgrade` and return the trace headers for the upstream's request.

        They replace the client's headers named in `Telemetry.trace_fields`. Empty when there is nothing to
        tell: with tracing off and no context from the caller, a made-up one would overrule the backend's
        sampling.
        """
        telemetry = self._telemetry
        if self._recorded:
            return telemetry.propagation.inject(self._start("upstream.upgrade", attempt, at_ms))
        if telemetry.recorder.on or self._parent is not None:
            return telemetry.propagation.inject(self._context)
        return []

    def upgrade_ended(self, at_ms: float, status: int | None, error: str | None) -> None:
        """End `upstream.upgrade` with the status that came, or with the error that came instead."""
        if self._recorded:
            self._end("upstream.upgrade", at_ms, status, error)

    def accept_ended(self, started_ms: float, ended_ms: float) -> None:
        """Record `client.accept`: answering the client."""
        if self._recorded:
            self._child("client.accept", {}, started_ms, ended_ms)

    def flush_ended(self, started_ms: float, ended_ms: float, client_bytes: int, upstream_bytes: int) -> None:
        """Record `gate.flush`: the early bytes of each leg written to the other."""
        if self._recorded:
            told: Attributes = {
                "readygate.early.client.bytes": client_bytes,
                "readygate.early.upstream.bytes": upstream_bytes,
            }
            self._child("gate.flush", told, started_ms, ended_ms)

    def session(self, at_ms: float) -> SessionTrace:
        """Start `websocket.session`; call it before `finish` and finish it when both legs are closed."""
        self._telemetry.metrics.session_opened()
        if not self._recorded:
            return SessionTrace(self._telemetry, self, self._context, at_ms, recorded=False)
        self._session = self._telemetry.recorder.new_trace(self._context)
        return SessionTrace(self._telemetry, self, self._session, at_ms, recorded=True)

    def finish(self, report: HandshakeReport, at_ms: float) -> None:
        """End the handshake: its stages become spans, it is counted, logged and told to listeners."""
        if self._finished:
            return
        self._finished = True
        if self._recorded:
            self._emit(report, at_ms)
        self._telemetry.handshake_finished(self, report, at_ms - self._started_ms)

    def link(self) -> Link:
        """Return a link to the handshake's span."""
        return Link(self._context)

    def _emit(self, report: HandshakeReport, at_ms: float) -> None:
        for running in tuple(self._running):
            self._end(running, at_ms, None, "timeout" if report.outcome is Outcome.TIMEOUT else "abandoned")
        for stage in report.stages:
            self._stage(stage, report)
        told = attrs.of_request(self.subject) | attrs.of_handshake(report)
        self._telemetry.recorder.emit(
            "websocket.handshake",
            self._context,
            self._parent,
            told,
            self._started_ms,
            at_ms,
            kind=SpanKind.SERVER,
            status=attrs.ERROR if "error.type" in told else attrs.UNSET,
            links=(Link(self._session),) if self._session is not None else (),
        )

    def _stage(self, stage: StageRecord, report: HandshakeReport) -> None:
        recorder = self._telemetry.recorder
        recorder.emit(
            f"{stage.role}.{stage.stage}",
            recorder.child(self._context),
            self._context,
            attrs.of_stage(stage),
            stage.started_ms,
            stage.ended_ms,
            status=attrs.stage_status(stage, report) if stage.outcome is StageOutcome.FAILED else attrs.UNSET,
            events=[Event(name, timestamp=recorder.epoch_ns(at_ms)) for name, at_ms in stage.marks],
        )

    def _start(self, name: str, attempt: int, at_ms: float) -> SpanContext:
        running = _Try(name, attempt, at_ms, self._telemetry.recorder.child(self._context))
        self._running[name] = running
        return running.context

    def _end(self, name: str, at_ms: float, status: int | None, error: str | None) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return
        told: Attributes = {**self._telemetry.upstream, "readygate.attempt": running.attempt}
        if name == "upstream.upgrade":
            told["http.request.method"] = "GET"  # RFC 6455 section 4.1: the method of an upgrade MUST be GET
        if running.attempt > 1:
            told["http.request.resend_count"] = running.attempt - 1
        if status is not None:
            told["http.response.status_code"] = status
            error = error or (str(status) if status >= _SERVER_ERROR else None)
        if error:
            told["error.type"] = error
        self._child(name, told, running.started_ms, at_ms, running.context, SpanKind.CLIENT)

    def _child(
        self,
        name: str,
        told: Attributes,
        started_ms: float,
        ended_ms: float,
        context: SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        recorder = self._telemetry.recorder
        context = context or recorder.child(self._context)
        status = attrs.ERROR if "error.type" in told else attrs.UNSET
        recorder.emit(name, context, self._context, told, started_ms, ended_ms, kind=kind, status=status)


class SessionTrace:
    """The trace of one open session. Call `finish` exactly once, when both legs are closed."""

    __slots__ = (
        "_context",
        "_finished",
        "_handshake",
        "_recorded",
        "_started_ms",
        "_telemetry",
    )

    def __init__(
        self,
        telemetry: Telemetry,
        handshake: HandshakeTrace,
        context: SpanContext,
        at_ms: float,
        *,
        recorded: bool,
    ) -> None:
        self._telemetry = telemetry
        self._handshake = handshake
        self._context = context
        self._recorded = recorded
        self._started_ms = at_ms
        self._finished = False

    @property
    def trace_id(self) -> str:
        """The trace's id, in hex."""
        return f"{self._context.trace_id:032x}"

    @property
    def span_id(self) -> str:
        """The span's id, in hex."""
        return f"{self._context.span_id:016x}"

    @property
    def sampled(self) -> bool:
        """Whether the trace is exported."""
        return self._context.trace_flags.sampled

    @property
    def handshake(self) -> HandshakeTrace:
        """The handshake that opened the session."""
        return self._handshake

    def finish(self, report: SessionReport, at_ms: float) -> None:
        """End the session: span, counts, the close line, listeners."""
        if self._finished:
            return
        self._finished = True
        if self._recorded:
            told = attrs.of_session(self._handshake.subject, report)
            self._telemetry.recorder.emit(
                "websocket.session",
                self._context,
                None,
                told,
                self._started_ms,
                at_ms,
                status=attrs.ERROR if "error.type" in told else attrs.UNSET,
                links=(self._handshake.link(),),
            )
        self._telemetry.session_finished(self, report, at_ms - self._started_ms)
