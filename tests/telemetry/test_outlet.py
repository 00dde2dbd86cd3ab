"""A collector in trouble: what waits is bounded, what is dropped is counted, and it is not asked in vain."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from proxy.telemetry import outlet
from proxy.telemetry.outlet import Outlet
from tests.telemetry.reports import START_MS, closed, open_session, telemetry


class Exporter(SpanExporter):
    """Stands where the network would be: fails while told to, or waits to be let go on."""

    def __init__(self, *, fails: bool = False, holds: bool = False) -> None:
        self.fails = fails
        self.exported: list[ReadableSpan] = []
        self.asked = 0
        self.third, self.let_go = threading.Event(), threading.Event()
        if not holds:
            self.let_go.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        if self.asked == 3:
            self.third.set()
        self.let_go.wait(30)
        if self.fails:
            return SpanExportResult.FAILURE
        self.exported += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now_s = [1000.0]
    monkeypatch.setattr(outlet.time, "monotonic", lambda: now_s[0])
    return now_s


def handshakes(made, count: int) -> None:
    for _ in range(count):
        open_session(made)[1].finish(closed(), START_MS + 20)


def made_spans(monkeypatch) -> list[str]:
    """Collect the name of each span that is made, wherever it goes."""
    names: list[str] = []
    original = Outlet.offer
    monkeypatch.setattr(Outlet, "offer", lambda self, span: (names.append(span.name), original(self, span)))
    return names


def test_a_collector_that_failed_is_left_alone_twice_as_long_each_time(clock):
    exporter = Exporter(fails=True)
    made = telemetry(exporter)
    (way,) = made.recorder._outlets
    waits = []
    for _ in range(7):
        handshakes(made, 1)
        way.processor.force_flush()
        asked, failed_s = exporter.asked, clock[0]
        while not way.has_room(1):
            clock[0] += 0.5
        waits.append(clock[0] - failed_s)
        assert exporter.asked == asked
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    made.shutdown(10)


def test_a_collector_that_is_back_is_tried_with_a_few_spans_and_then_gets_everything(clock):
    exporter = Exporter(fails=True)
    made = telemetry(exporter)
    (way,) = made.recorder._outlets
    handshakes(made, 1)
    way.processor.force_flush()
    exporter.fails, clock[0] = False, clock[0] + 1
    handshakes(made, 100)  # a few of them show that it is back
    way.processor.force_flush()
    assert 0 < len(exporter.exported) <= 64
    before = len(exporter.exported)
    handshakes(made, 100)
    way.processor.force_flush()
    assert len(exporter.exported) - before == 1200
    exporter.fails = True
    handshakes(made, 1)
    way.processor.force_flush()
    clock[0] += 1
    assert way.has_room(1)  # it begins anew with the shortest pause
    made.shutdown(10)


def test_while_the_collector_is_left_alone_no_span_is_made_and_each_is_counted(clock, monkeypatch):
    exporter = Exporter(fails=True)
    made = telemetry(exporter)
    handshakes(made, 1)
    made.recorder._outlets[0].processor.force_flush()
    names = made_spans(monkeypatch)
    handshakes(made, 100)
    assert names == []
    assert made.recorder.dropped == 1212  # eleven of a handshake and one of its session, the first ones too
    assert "readygate_spans_dropped_total 1212" in made.metrics.prometheus()
    made.shutdown(10)


def test_what_is_left_at_the_stop_is_tried_whatever_was_before():
    exporter = Exporter(fails=True, holds=True)
    made = telemetry(exporter)
    handshakes(made, 100)  # 1200 spans, three batches; the first hangs
    made.shutdown(0)
    exporter.let_go.set()
    assert exporter.third.wait(20)


def test_with_a_collector_that_hangs_a_bounded_number_waits_and_handshakes_are_whole_or_absent():
    exporter = Exporter(holds=True)
    made = telemetry(exporter)
    handshakes(made, 600)  # 7200 spans
    (way,) = made.recorder._outlets
    assert way._offered - way._exporter.taken <= 2048
    exporter.let_go.set()
    made.shutdown(20)
    whole = [span for span in exporter.exported if span.name == "websocket.handshake"]
    stages = [span for span in exporter.exported if span.name == "client.stabilization"]
    assert len(whole) == len(stages)
    assert len(exporter.exported) + made.recorder.dropped == 7200
