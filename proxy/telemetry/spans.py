"""Finished spans, built once and handed to the SDK's batch processor.

A span of ours is complete when it is made: the core tells start and end times afterwards. So there is no live
span object to fill and lock; sampling, ids, resource, batching and export are the SDK's. That costs a quarter
of what `Tracer.start_span()` ... `end()` costs.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import Event
    from opentelemetry.trace import Link
    from opentelemetry.util.types import AttributeValue

_UNSET = Status(StatusCode.UNSET)
_DEFAULT_ROOM = 2048  # the specification's default of OTEL_BSP_MAX_QUEUE_SIZE
_TELL_EVERY = 256
# beside the SDK's own complaints, so that one limit a minute covers all (logs.py)
_log = logging.getLogger("opentelemetry.readygate")


class Recorder:
    """Decides which traces are recorded and gives their spans to the exporters. One per process.

    Without exporters nothing is recorded; ids exist all the same, for the log lines.
    """

    def __init__(self, exporters: Sequence[SpanExporter], resource: Resource, version: str) -> None:
        # the SDK's own provider reads OTEL_TRACES_SAMPLER; nothing of ours must run at interpreter exit
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._ids = self._provider.id_generator
        self._outlets = [_Outlet(exporter) for exporter in exporters]
        self._scope = InstrumentationScope("readygate", version)
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    @property
    def on(self) -> bool:
        """Whether there is any exporter."""
        return bool(self._outlets)

    def root(self, name: str, parent: SpanContext | None) -> tuple[SpanContext, bool]:
        """Return the context of a new SERVER span under a remote `parent`, and whether it is recorded.

        With tracing off the parent's own context stands in: a span of ours that nobody exports must not come
        between the caller's and the backend's.
        """
        if not self._outlets:
            return parent or self._context(self._ids.generate_trace_id(), 0), False
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        around = trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        sampled = self._provider.sampler.should_sample(around, trace_id, name, SpanKind.SERVER)
        recorded = sampled.decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags.SAMPLED if recorded else TraceFlags.DEFAULT
        if parent.trace_flags.random_trace_id if parent else self._ids.is_trace_id_random():
            flags |= TraceFlags.RANDOM_TRACE_ID
        context = SpanContext(
            trace_id, self._ids.generate_span_id(), False, TraceFlags(flags), sampled.trace_state
        )
        return context, recorded

    def child(self, parent: SpanContext) -> SpanContext:
        """Return the context of a new span in the parent's trace."""
        return SpanContext(
            parent.trace_id, self._ids.generate_span_id(), False, parent.trace_flags, parent.trace_state
        )

    def new_trace(self, like: SpanContext) -> SpanContext:
        """Return the context of a root span of a trace of its own, sampled as `like` is."""
        return self._context(self._ids.generate_trace_id(), like.trace_flags)

    def _context(self, trace_id: int, flags: int) -> SpanContext:
        return SpanContext(trace_id, self._ids.generate_span_id(), False, TraceFlags(flags))

    def epoch_ns(self, at_ms: float) -> int:
        """Turn ms of the monotonic clock into ns since 1970, by the offset taken at the start."""
        return int(at_ms * 1e6) + self._offset_ns

    def emit(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Mapping[str, AttributeValue],
        started_ms: float,
        ended_ms: float,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = _UNSET,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
    ) -> None:
        """Hand a finished span to the exporters. Never blocks; what finds no room is dropped and counted."""
        span = ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._provider.resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=kind,
            status=status,
            start_time=self.epoch_ns(started_ms),
            end_time=self.epoch_ns(max(started_ms, ended_ms)),
            instrumentation_scope=self._scope,
        )
        for outlet in self._outlets:
            outlet.offer(span)

    def shutdown(self) -> None:
        """Export what is left and stop. May take long when the collector is away: call it on a thread."""
        for outlet in self._outlets:
            outlet.processor.shutdown()  # type: ignore[no-untyped-call]


class _Outlet:
    """One exporter behind its batch processor, with a bound of our own on what waits.

    The SDK logs each span that finds the queue full, which costs more than the span; so it never gets there.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._room = _queue_size()
        self._exporter = _Counting(exporter)
        self.processor = BatchSpanProcessor(self._exporter, max_queue_size=self._room)
        self._offered = 0
        self._dropped = 0

    def offer(self, span: ReadableSpan) -> None:
        if self._offered - self._exporter.taken >= self._room:
            self._drop()
            return
        self._offered += 1
        self.processor.on_end(span)

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped % _TELL_EVERY == 1:
            _log.warning("the exporter does not keep up: %d spans dropped so far", self._dropped)


class _Counting(SpanExporter):
    """Counts the spans that left the queue."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        return self._inner.export(spans)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _queue_size() -> int:
    # the SDK reads its own batch variables from the process's environment; this is one of them
    text = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
    return int(text) if text.isdecimal() and int(text) > 0 else _DEFAULT_ROOM


class _Resource(Resource):
    """A resource that is hashed once: the OTLP encoder asks for it with each span, and it is a JSON dump."""

    def __init__(self, like: Resource) -> None:
        super().__init__(dict(like.attributes), like.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


def resource(environ: Mapping[str, str]) -> Resource:
    """Return the resource from OTEL_SERVICE_NAME (default `readygate`) and OTEL_RESOURCE_ATTRIBUTES."""
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return _Resource(Resource.create({} if named else {"service.name": "readygate"}))
