"""The spans of a handshake: `websocket.handshake`, its tries and its stages.

All times are ms of the monotonic clock, as the core counts them. While the handshake runs only facts are
noted; spans are made of them when its outcome is known, all or none. A trace that is not recorded costs an id
and a few method calls; its steps are noted all the same, for the live page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanKind

from proxy.telemetry import attributes as attrs
from proxy.telemetry.facts import describe
from proxy.telemetry.recent import MOST_STEPS, Finished, Step, ends, unfinished
from proxy.telemetry.session_trace import SILENT, SessionTrace
from proxy.telemetry.spans import Identified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import SpanContext

    from proxy.core.report import HandshakeReport, StageRecord
    from proxy.telemetry.attributes import Attributes
    from proxy.telemetry.facts import RequestFacts, Said, Subject
    from proxy.telemetry.telemetry import Telemetry

_SERVER_ERROR = 500
_ACCEPTED = "accepted"  # a `guard.Reason`


class HandshakeTrace(Identified):
    """The trace of one handshake. Call `finish` exactly once, whatever happens; later calls are ignored.

    `replied_ms`: when the upstream's first message passed the open gate, if the edge has seen it.
    """

    __slots__ = (
        "_finished",
        "_parent",
        "_recorded",
        "_request",
        "_session",
        "_started_ms",
        "_steps",
        "_subject",
        "_telemetry",
        "replied_ms",
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
        super().__init__(context)
        self._telemetry = telemetry
        self._request: RequestFacts | None = request
        self._subject: Subject | None = None
        self._started_ms = at_ms
        self._parent = parent
        self._recorded = recorded
        self._session: SpanContext | None = None
        self._steps: list[Step] = []
        self._finished = False
        self.replied_ms: float | None = None

    @property
    def subject(self) -> Subject:
        """What may be told of the request, redacted."""
        if self._subject is None:
            assert self._request is not None
            self._subject = describe(self._request)
            self._request = None  # the headers are not kept for the length of a session
        return self._subject

    @property
    def started_ms(self) -> float:
        """When the upgrade request came."""
        return self._started_ms

    def auth_ended(
        self, started_ms: float, ended_ms: float, source: str, algorithm: str, outcome: str
    ) -> None:
        """Record `guard.auth`: checking the token, which was in `source`; `outcome` is a `guard.Reason`."""
        told, error = attrs.of_auth(source, algorithm, outcome), None if outcome == _ACCEPTED else outcome
        self._steps.append(Step("guard.auth", started_ms, ended_ms, attributes=told, error=error))

    def connect_started(self, attempt: int, at_ms: float) -> None:
        """Open `upstream.connect` of a try (1 is the first)."""
        self._start("upstream.connect", attempt, at_ms)

    def connect_ended(self, at_ms: float, error: str | None) -> None:
        """End `upstream.connect`; `error` is a cause such as `refused` or `timeout`, None when connected."""
        self._end("upstream.connect", at_ms, None, error)

    def upgrade_started(self, attempt: int, at_ms: float) -> list[tuple[bytes, bytes]]:
        """Open `upstream.upgrade` and return the trace headers for the upstream's request.

        They replace the client's headers named in `Telemetry.trace_fields`. Empty when there is nothing to
        tell: with tracing off and no context from the caller, a made-up one would overrule the backend's
        sampling.
        """
        telemetry = self._telemetry
        upgrade = self._start("upstream.upgrade", attempt, at_ms)
        if self._recorded:
            upgrade.context = telemetry.recorder.child(self._context)
            return telemetry.propagation.inject(upgrade.context)
        if telemetry.recorder.on or self._parent is not None:
            return telemetry.propagation.inject(self._context)
        return []

    def upgrade_ended(self, at_ms: float, status: int | None, error: str | None) -> None:
        """End `upstream.upgrade` with the status that came, or with the error that came instead."""
        self._end("upstream.upgrade", at_ms, status, error)

    def accept_ended(self, started_ms: float, ended_ms: float) -> None:
        """Record `client.accept`: answering the client."""
        self._steps.append(Step("client.accept", started_ms, ended_ms))

    def flush_ended(self, started_ms: float, ended_ms: float, client_bytes: int, upstream_bytes: int) -> None:
        """Record `gate.flush`: the early bytes of each leg written to the other."""
        told: Attributes = {
            "readygate.early.client.bytes": client_bytes,
            "readygate.early.upstream.bytes": upstream_bytes,
        }
        self._steps.append(Step("gate.flush", started_ms, ended_ms, attributes=told))

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
        steps, self._steps = self._steps, []  # they are not kept for the length of a session
        for step in steps:
            if step.ended_ms is None:
                step.ended_ms, step.error = at_ms, unfinished(report)
        if self._recorded and (self.sampled or attrs.is_failure(report)):
            self._context = self._telemetry.recorder.sampled(self._context)
            self._emit(report, at_ms, steps)
        self._telemetry.recent.append(Finished(self, report, at_ms, ends(steps)))
        self._telemetry.handshake_finished(self, report, at_ms - self._started_ms)

    def link(self) -> Link:
        """Return a link to the handshake's span."""
        return Link(self._context)

    def _emit(self, report: HandshakeReport, at_ms: float, steps: Sequence[Step]) -> None:
        recorder = self._telemetry.recorder
        if not recorder.admits(len(steps) + len(report.stages) + 1):
            return
        for step in steps:
            self._emit_step(step)
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

    def _emit_step(self, step: Step) -> None:
        recorder, tried = self._telemetry.recorder, step.name.startswith("upstream.")
        told = self._of_try(step) if tried else step.attributes or {}
        assert step.ended_ms is not None
        recorder.emit(
            step.name,
            recorder.child(self._context) if step.context is None else recorder.sampled(step.context),
            self._context,
            told,
            step.started_ms,
            step.ended_ms,
            kind=SpanKind.CLIENT if tried else SpanKind.INTERNAL,
            status=attrs.status(told),
        )

    def _of_try(self, step: Step) -> Attributes:
        told: Attributes = {**self._telemetry.upstream, "readygate.attempt": step.attempt}
        if step.attempt > 1:
            told["http.request.resend_count"] = step.attempt - 1
        if step.name == "upstream.upgrade":
            told["http.request.method"] = "GET"  # RFC 6455 section 4.1: the method of an upgrade MUST be GET
        error = step.error
        if step.status is not None:
            told["http.response.status_code"] = step.status
            error = error or (str(step.status) if step.status >= _SERVER_ERROR else None)
        if error:
            told["error.type"] = error
        return told

    def _start(self, name: str, attempt: int, at_ms: float) -> Step:
        step = Step(name, at_ms, attempt=attempt)
        self._steps.append(step)
        if len(self._steps) > MOST_STEPS and not self._recorded:  # the deadline alone bounds refused tries
            del self._steps[MOST_STEPS // 2]
        return step

    def _end(self, name: str, at_ms: float, status: int | None, error: str | None) -> None:
        for step in reversed(self._steps):
            if step.name == name and step.ended_ms is None:
                step.ended_ms, step.status, step.error = at_ms, status, error
                return
