"""Trace context in and out of HTTP headers: OTEL_PROPAGATORS, and Google's X-Cloud-Trace-Context."""

from __future__ import annotations

import logging
import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.propagators.textmap import TextMapPropagator

_log = logging.getLogger("readygate.telemetry")
_CLOUD = "x-cloud-trace-context"
# https://cloud.google.com/trace/docs/trace-context: TRACE_ID/SPAN_ID;o=OPTIONS, the span id in decimal
_CLOUD_VALUE = re.compile(r"([0-9a-fA-F]{32})/(\d{1,20})(?:;o=(\d))?")
_SPAN_ID_END = 1 << 64


class Propagation:
    """Takes the caller's trace context out of a request and puts ours into the upstream's.

    `fields`: header names (lower case) that `inject` replaces; drop the client's own before adding ours.
    `baggage` is end to end and passes through untouched.
    """

    def __init__(self, propagators: Sequence[TextMapPropagator]) -> None:
        self._propagators = tuple(propagators)
        names = {name.lower() for propagator in propagators for name in propagator.fields}
        self.fields = frozenset(name.encode() for name in names)
        self._wanted = {name.encode(): name for name in names | ({_CLOUD} if names else set())}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Propagation:
        """Build from OTEL_PROPAGATORS (default `tracecontext,baggage`); unknown names are logged."""
        found: list[TextMapPropagator] = []
        for name in (environ.get("OTEL_PROPAGATORS") or "tracecontext").split(","):
            found += _propagator(name.strip().lower())
        return cls(found)

    def extract(self, headers: Iterable[tuple[bytes, bytes]]) -> SpanContext | None:
        """Return the caller's span context, None when there is no valid one."""
        carrier: dict[str, list[str]] = {}
        wanted = self._wanted
        for name, value in headers:
            key = wanted.get(name.lower())
            if key is not None:
                carrier.setdefault(key, []).append(value.decode("latin-1").strip())
        if not carrier:
            return None
        if len(carrier.get("traceparent", ())) > 1:  # W3C Trace Context 3.2.1: not more than one
            del carrier["traceparent"]
        for propagator in self._propagators:
            context = trace.get_current_span(propagator.extract(carrier, Context())).get_span_context()
            if context.is_valid:
                return context
        return _cloud_context(carrier.get(_CLOUD, []))

    def inject(self, context: SpanContext) -> list[tuple[bytes, bytes]]:
        """Return the headers that hand `context` on."""
        carrier: dict[str, str] = {}
        carried = trace.set_span_in_context(NonRecordingSpan(context), Context())
        for propagator in self._propagators:
            propagator.inject(carrier, carried)
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in carrier.items()]


def _propagator(name: str) -> list[TextMapPropagator]:
    if name in {"", "none", "baggage"}:
        return []
    if name == "tracecontext":
        return [TraceContextTextMapPropagator()]
    for entry in entry_points(group="opentelemetry_propagator", name=name):
        return [entry.load()()]
    _log.warning("OTEL_PROPAGATORS: found %r, expected tracecontext, baggage, none or an installed one", name)
    return []


def _cloud_context(values: list[str]) -> SpanContext | None:
    match = _CLOUD_VALUE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    span_id = int(match[2])
    if span_id >= _SPAN_ID_END:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if match[3] == "1" else TraceFlags.DEFAULT)
    context = SpanContext(int(match[1], 16), span_id, is_remote=True, trace_flags=flags)
    return context if context.is_valid else None
