"""The spans of a handshake: `websocket.handshake`, its tries and its stages.

All times are ms of the monotonic clock, as the core counts them. While the handshake runs only facts are
noted; spans are made of them when its outcome is known, all or none. A trace that is not recorded costs an id
and a few method calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanKind

from proxy.core.report import Outcome
from proxy.telemetry import attributes as attrs
from proxy.telemetry.facts import describe
from proxy.telemetry.session_trace import SILENT, SessionTrace

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from proxy.core.report import HandshakeReport, StageRecord
    from proxy.telemetry.attributes import Attributes
    from proxy.telemetry.facts import RequestFacts, Said, Subject
    from proxy.telemetry.telemetry import Telemetry

_SERVER_ERROR = 500


class _Child:
    """A child span to be: `context` None until it is made, unless somebody had to be told of it before."""

    __slots__ = ("attributes", "context", "ended_ms", "kind", "name", "started_ms")

    def __init__(
        self,
        name: str,
        attributes: Attributes,
        started_ms: float,
        ended_ms: float,
        context: SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        self.name = name
        self.attributes = attributes
        self.started_ms = started_ms
        self.ended_ms = ended_ms
        self.context = context
        self.kind = kind


class HandshakeTrace:
    """The trace of one handshake. Call `finish` exactly once, whatever happens; later calls are ignored."""

    __slots__ = (
        "_children",
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
        self._running: dict[str, _Child] = {}  # tries under way, by name
        self._children: list[_Child] = []
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
            upgrade = self._start("upstream.upgrade", attempt, at_ms)
            upgrade.context = telemetry.recorder.child(self._context)
            return telemetry.propagation.inject(upgrade.context)
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

    def session(self, at_ms: float, client: Said = SILENT, upstream: Said = SILENT) -> SessionTrace:
        """Start `websocket.session`; call it before `finish` and finish it when both legs are closed.

        `client` and `upstream` count what each says for as long as the session is open.
        """
        context, recorded = self._context, self._recorded and self.sampled
        if recorded:
            context = self._session = self._telemetry.recorder.new_trace(context)
        trace = SessionTrace(
            self._telemetry, self, context, at_ms, recorded=recorded, said=(client, upstream)
        )
        self._telemetry.metrics.session_opened(trace)
        return trace

    def finish(self, report: HandshakeReport, at_ms: float) -> None:
        """End the handshake: its stages become spans, it is counted, logged and told to listeners."""
        if self._finished:
            return
        self._finished = True
        if self._recorded and (self.sampled or attrs.is_failure(report)):
            self._context = self._telemetry.recorder.sampled(self._context)
            self._emit(report, at_ms)
        self._children.clear()
        self._telemetry.handshake_finished(self, report, at_ms - self._started_ms)

    def link(self) -> Link:
        """Return a link to the handshake's span."""
        return Link(self._context)

    def _emit(self, report: HandshakeReport, at_ms: float) -> None:
        for running in tuple(self._running):
            self._end(running, at_ms, None, "timeout" if report.outcome is Outcome.TIMEOUT else "abandoned")
        recorder = self._telemetry.recorder
        if not recorder.admits(len(self._children) + len(report.stages) + 1):
            return
        for child in self._children:
            self._emit_child(child)
        for stage in report.stages:
            self._emit_stage(stage, report)
        told = attrs.of_request(self.subject) | attrs.of_handshake(report)
        recorder.emit(
            "websocket.handshake",
            self._context,
            self._parent,
            told,
            self._started_ms,
            at_ms,
            kind=SpanKind.SERVER,
            status=attrs.status(told),
            links=(Link(self._session),) if self._session is not None else (),
        )

    def _emit_stage(self, stage: StageRecord, report: HandshakeReport) -> None:
        recorder = self._telemetry.recorder
        told = attrs.of_stage(stage, report)
        recorder.emit(
            f"{stage.role}.{stage.stage}",
            recorder.child(self._context),
            self._context,
            told,
            stage.started_ms,
            stage.ended_ms,
            status=attrs.status(told),
            events=[Event(name, timestamp=recorder.epoch_ns(at_ms)) for name, at_ms in stage.marks],
        )

    def _emit_child(self, child: _Child) -> None:
        recorder, told = self._telemetry.recorder, child.attributes
        context = child.context or self._context
        recorder.emit(
            child.name,
            recorder.child(context) if child.context is None else recorder.sampled(context),
            self._context,
            told,
            child.started_ms,
            child.ended_ms,
            kind=child.kind,
            status=attrs.status(told),
        )

    def _start(self, name: str, attempt: int, at_ms: float) -> _Child:
        told: Attributes = {**self._telemetry.upstream, "readygate.attempt": attempt}
        if attempt > 1:
            told["http.request.resend_count"] = attempt - 1
        running = self._running[name] = _Child(name, told, at_ms, at_ms, kind=SpanKind.CLIENT)
        return running

    def _end(self, name: str, at_ms: float, status: int | None, error: str | None) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return
        told = running.attributes
        if name == "upstream.upgrade":
            told["http.request.method"] = "GET"  # RFC 6455 section 4.1: the method of an upgrade MUST be GET
        if status is not None:
            told["http.response.status_code"] = status
            error = error or (str(status) if status >= _SERVER_ERROR else None)
        if error:
            told["error.type"] = error
        running.ended_ms = at_ms
        self._children.append(running)

    def _child(self, name: str, told: Attributes, started_ms: float, ended_ms: float) -> None:
        """Note a child span that has run."""
        self._children.append(_Child(name, told, started_ms, ended_ms))
