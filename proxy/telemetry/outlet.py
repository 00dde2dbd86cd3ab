"""One span exporter behind the SDK's batch processor, so that a collector in trouble costs sessions nothing.

Down, slow or refusing, it is met by three bounds: the SDK's queue is never offered more than it holds (it
would log each span too many, which costs more than the span); what is not taken is dropped and counted; and
after a failure the collector is left alone for a while, then tried with a few spans, so that little is made
and encoded in vain.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

_DEFAULT_ROOM = 2048  # the specification's default of OTEL_BSP_MAX_QUEUE_SIZE
_TELL_EVERY = 256
# How long a collector is left alone after a failure: twice as long after each further one.
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_FEW = 64  # spans that may wait for a collector that failed last time
# beside the SDK's own complaints, so that one limit a minute covers all (logs.py)
_log = logging.getLogger("opentelemetry.readygate")


class Outlet:
    """Takes finished spans for one exporter, on the event loop's thread. Never blocks."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._room = _queue_size()
        self._exporter = _Guarded(exporter)
        self.processor = BatchSpanProcessor(self._exporter, max_queue_size=self._room)
        self._offered = 0
        self._refused = 0

    @property
    def dropped(self) -> int:
        """Spans that found no room, or were not taken by the collector, so far."""
        return self._refused + self._exporter.lost

    def has_room(self, spans: int) -> bool:
        """Return whether so many spans would be taken now."""
        room = _FEW if self._exporter.failing else self._room
        return self._offered - self._exporter.taken + spans <= room and not self._exporter.pausing

    def offer(self, span: ReadableSpan) -> None:
        """Queue a span for export, or drop it."""
        if not self.has_room(1):
            self.drop(1)
            return
        self._offered += 1
        self.processor.on_end(span)

    def drop(self, spans: int) -> None:
        """Count spans as dropped, and say so now and then."""
        before = self._refused
        self._refused += spans
        if before // _TELL_EVERY != self._refused // _TELL_EVERY or not before:
            _log.warning("the collector does not keep up: %d spans dropped so far", self.dropped)

    def shutdown(self) -> None:
        """Export what is left and stop. May take long when the collector is away: call it on a thread."""
        self._exporter.stopping = True
        self.processor.shutdown()  # type: ignore[no-untyped-call]


class _Guarded(SpanExporter):
    """Counts the spans that left the queue, and asks a collector that failed again only after a pause.

    `taken` counts what was let out of the queue, `lost` what of it the collector did not get.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._next_s = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self.taken = 0
        self.lost = 0
        self.stopping = False

    @property
    def failing(self) -> bool:
        """Whether the last export failed."""
        return self._next_s > 0.0

    @property
    def pausing(self) -> bool:
        """Whether the collector is left alone now."""
        return self._next_s > 0.0 and time.monotonic() < self._next_s

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        if not self.pausing or self.stopping:
            result = self._try(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
        return result

    def _try(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self._next_s, self._pause_s = 0.0, _FIRST_PAUSE_S
            else:
                self._next_s = time.monotonic() + self._pause_s
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _queue_size() -> int:
    # the SDK reads its own batch variables from the process's environment; this is one of them
    text = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
    return int(text) if text.isdecimal() and int(text) > 0 else _DEFAULT_ROOM
