"""Finished spans, built once and handed to the SDK's batch processor.

A span of ours is complete when it is made: the core tells start and end times afterwards. So there is no live
span object to fill and lock; sampling, ids, resource, batching and export are the SDK's. That costs a quarter
of what `Tracer.start_span()` ... `end()` costs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from proxy.telemetry.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import Event
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link
    from opentelemetry.util.types import AttributeValue

_UNSET = Status(StatusCode.UNSET)


class Recorder:
    """Decides which traces are recorded and gives their spans to the exporters. One per process.

    Without exporters nothing is recorded; ids exist all the same, for the log lines. With `keep_failures` the
    traces that the sampler leaves out are recorded too: what becomes of them, their outcome decides.
    """

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        resource: Resource,
        version: str,
        *,
        keep_failures: bool = False,
    ) -> None:
        # the SDK's own provider reads OTEL_TRACES_SAMPLER; nothing of ours must run at interpreter exit
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._ids = self._provider.id_generator
        self._outlets = [Outlet(exporter) for exporter in exporters]
        self._keep_failures = keep_failures
        self._scope = InstrumentationScope("readygate", version)
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    @property
    def on(self) -> bool:
        """Whether there is any exporter."""
        return bool(self._outlets)

    @property
    def dropped(self) -> int:
        """Spans that found no room at an exporter, or that a collector did not take, so far."""
        return sum(outlet.dropped for outlet in self._outlets)

    def root(self, name: str, parent: SpanContext | None) -> tuple[SpanContext, bool]:
        """Return the context of a new SERVER span under a remote `parent`, and whether it is recorded.

        With tracing off the parent's own context stands in: a span of ours that nobody exports must not come
        between the caller's and the backend's. Recorded, but not sampled: see `keep_failures`.
        """
        if not self._outlets:
            return parent or self._context(self._ids.generate_trace_id(), 0), False
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        around = trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        sampled = self._provider.sampler.should_sample(around, trace_id, name, SpanKind.SERVER)
        kept = sampled.decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags.SAMPLED if kept else TraceFlags.DEFAULT
        if parent.trace_flags.random_trace_id if parent else self._ids.is_trace_id_random():
            flags |= TraceFlags.RANDOM_TRACE_ID
        context = SpanContext(
            trace_id, self._ids.generate_span_id(), False, TraceFlags(flags), sampled.trace_state
        )
        return context, kept or self._keep_failures

    def child(self, parent: SpanContext) -> SpanContext:
        """Return the context of a new span in the parent's trace."""
        return SpanContext(
            parent.trace_id, self._ids.generate_span_id(), False, parent.trace_flags, parent.trace_state
        )

    def new_trace(self, like: SpanContext) -> SpanContext:
        """Return the context of a root span of a trace of its own, sampled as `like` is."""
        return self._context(self._ids.generate_trace_id(), like.trace_flags)

    def sampled(self, context: SpanContext) -> SpanContext:
        """Return the same context, sampled after all."""
        if context.trace_flags.sampled:
            return context
        flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
        return SpanContext(context.trace_id, context.span_id, False, flags, context.trace_state)

    def _context(self, trace_id: int, flags: int) -> SpanContext:
        return SpanContext(trace_id, self._ids.generate_span_id(), False, TraceFlags(flags))

    def epoch_ns(self, at_ms: float) -> int:
        """Turn ms of the monotonic clock into ns since 1970, by the offset taken at the start."""
        return int(at_ms * 1e6) + self._offset_ns

    def admits(self, spans: int) -> bool:
        """Return whether an exporter takes so many spans now. Where none does they count as dropped.

        Ask before making them: a collector that is down then costs next to nothing.
        """
        if any(outlet.has_room(spans) for outlet in self._outlets):
            return True
        for outlet in self._outlets:
            outlet.drop(spans)
        return False

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
            outlet.shutdown()


class Identified:
    """What has a span, whether it is exported or not: the ids by which it is found."""

    __slots__ = ("_context",)

    def __init__(self, context: SpanContext) -> None:
        self._context = context

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


class _Resource(Resource):
    """A resource that is hashed once: the OTLP encoder asks for it with each span, and it is a JSON dump."""

    def __init__(self, like: Resource) -> None:
        super().__init__(dict(like.attributes), like.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


# What Cloud Run (and Knative) tell a container of itself, by OpenTelemetry's names for it.
_PLATFORM = {"faas.name": "K_SERVICE", "faas.version": "K_REVISION"}


def resource(environ: Mapping[str, str]) -> Resource:
    """Return the resource from OTEL_SERVICE_NAME (default `readygate`) and OTEL_RESOURCE_ATTRIBUTES.

    On Cloud Run it has the service and its revision, too, unless the user names these attributes.
    """
    theirs = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {"service.name": "readygate"}
    ours |= {key: value for key, name in _PLATFORM.items() if (value := environ.get(name))}
    if environ.get("OTEL_SERVICE_NAME"):
        del ours["service.name"]
    return _Resource(Resource.create({key: ours[key] for key in ours if f"{key}=" not in theirs}))


def revision(resource: Resource) -> str:
    """Return which revision this is, by its resource: `service.version` or Cloud Run's; "" for unknown."""
    told = resource.attributes.get("service.version") or resource.attributes.get("faas.version")
    return str(told or "")
