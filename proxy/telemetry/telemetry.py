"""The one object that the rest of readygate talks to: traces, metrics and log lines of a process."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from proxy.core.report import Outcome
from proxy.telemetry import exporters, recent, summary
from proxy.telemetry.facts import describe
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.propagation import Propagation
from proxy.telemetry.spans import Recorder, resource
from proxy.telemetry.traces import HandshakeTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.core.report import HandshakeReport
    from proxy.telemetry.attributes import Attributes
    from proxy.telemetry.facts import RequestFacts, SessionReport
    from proxy.telemetry.recent import Finished
    from proxy.telemetry.session_trace import SessionTrace

    Listener = Callable[[str, dict[str, object]], None]

_log = logging.getLogger("readygate.session")
_WARNED = frozenset({Outcome.TIMEOUT, Outcome.FAILED})


class Telemetry:
    """One per process; make it after a fork, not before.

    `metrics` counts; `listeners` are called with (`handshake` | `session`, fields) for each finished one,
    fields as in the log line; they must not raise or block. `recent`: the last handshakes. `trace_fields`:
    headers that our trace context replaces.
    """

    def __init__(
        self,
        recorder: Recorder,
        metrics: Metrics,
        propagation: Propagation,
        upstream: tuple[str, int] = ("", 0),
    ) -> None:
        self.recorder = recorder
        self.metrics = metrics
        self.propagation = propagation
        self.trace_fields = propagation.fields
        self.listeners: list[Listener] = []
        self.recent: deque[Finished] = deque(maxlen=recent.MOST)
        address, port = upstream
        metrics.watch_spans(lambda: recorder.dropped)
        self.upstream: Attributes = {"server.address": address, "server.port": port} if address else {}

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        version: str,
        upstream: tuple[str, int] = ("", 0),
        trace_failures: bool = False,
    ) -> Self:
        """Build from the OTEL_* variables; `environ` must be the process's own, which the SDK reads itself.

        `trace_failures`: handshakes that fail have spans, whatever the sampler says. Never raises for what is
        configured wrongly: that is logged, and left out.
        """
        of_process = resource(environ)
        recorder = Recorder(
            exporters.span_exporters(environ), of_process, version, keep_failures=trace_failures
        )
        metrics = Metrics(of_process, version, exporters.metric_readers(environ))
        return cls(recorder, metrics, Propagation.from_environment(environ), upstream)

    def handshake(self, request: RequestFacts, at_ms: float) -> HandshakeTrace:
        """Start `websocket.handshake` under the caller's trace context, if it sent one."""
        self.metrics.handshake_started()
        parent = self.propagation.extract(request.headers)
        context, recorded = self.recorder.root("websocket.handshake", parent)
        return HandshakeTrace(self, request, at_ms, context, parent, recorded=recorded)

    def handshake_finished(self, trace: HandshakeTrace, report: HandshakeReport, ms: float) -> None:
        """Count, log and tell a finished handshake; called by its trace."""
        subject = trace.subject
        self.metrics.handshake_finished(report, subject.route, subject.policy, ms / 1000)
        level = logging.WARNING if report.outcome in _WARNED else logging.INFO
        if self.listeners or _log.isEnabledFor(level):
            fields = summary.of_handshake(trace, report, ms)
            extra = {"fields": fields, "sampled": trace.sampled, "subject": subject}
            _log.log(level, summary.headline(report), extra=extra)
            self._tell("handshake", fields)

    def session_finished(self, trace: SessionTrace, report: SessionReport, ms: float) -> None:
        """Count, log and tell a closed session; called by its trace."""
        self.metrics.session_closed(trace, report, trace.handshake.subject.route)
        if self.listeners or _log.isEnabledFor(logging.INFO):
            fields = summary.of_session(trace, report, ms)
            _log.info("session closed", extra={"fields": fields, "sampled": trace.sampled})
            self._tell("session", fields)

    def complain(
        self, logger: logging.Logger, message: str, request: RequestFacts, fields: dict[str, object]
    ) -> None:
        """Warn of a request that is no handshake and went wrong; `fields` come behind who and what it was.

        It has no span: the line names the caller's.
        """
        if not logger.isEnabledFor(logging.WARNING):
            return
        subject = describe(request)
        told = summary.who(subject) | fields
        if (caller := self.propagation.extract(request.headers)) is not None:
            told |= {"trace_id": f"{caller.trace_id:032x}", "span_id": f"{caller.span_id:016x}"}
        logger.warning(message, extra={"fields": told, "subject": subject})

    def _tell(self, kind: str, fields: dict[str, object]) -> None:
        for listener in self.listeners:
            listener(kind, fields)

    def shutdown(self, timeout_s: float) -> None:
        """Export what is left; return after `timeout_s` even if the collector does not answer. Blocks."""
        ends_s = time.monotonic() + timeout_s
        # daemons: a collector that never answers must not keep the process alive
        stops = (self.recorder.shutdown, lambda: self.metrics.shutdown(timeout_s))
        threads = [threading.Thread(target=stop, name="telemetry-shutdown", daemon=True) for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends_s - time.monotonic()))
