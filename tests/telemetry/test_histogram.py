from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from proxy.telemetry.histogram import Histogram, Told, join
from proxy.telemetry.lag import LagProbe

BOUNDS = (0.001, 0.01, 0.1)


def test_a_value_falls_into_the_bucket_whose_upper_end_it_does_not_exceed():
    """As the SDK's own histogram has it."""
    values = (0.0, 0.0005, 0.001, 0.0011, 0.01, 0.0999, 0.1, 0.1001, 60.0)
    memory = InMemoryMetricReader()
    meter = MeterProvider([memory], resource=Resource({}), shutdown_on_exit=False).get_meter("theirs")
    theirs = meter.create_histogram("seconds", "s", explicit_bucket_boundaries_advisory=BOUNDS)
    ours = Histogram("seconds", "", "s", BOUNDS)
    for value in values:
        theirs.record(value)
        ours.record(value)
    (metric,) = memory.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (expected,) = metric.data.data_points
    (point,) = ours.metric(1).data.data_points
    assert list(point.bucket_counts) == list(expected.bucket_counts)
    assert (point.count, point.sum) == (expected.count, pytest.approx(expected.sum))
    assert tuple(point.explicit_bounds) == tuple(expected.explicit_bounds)


def test_labels_beyond_the_limit_count_as_other():
    ours = Histogram("seconds", "", "s", BOUNDS, "a", "b")
    for number in range(1200):
        ours.record(0.5, str(number), "x")
    points = ours.metric(1).data.data_points
    assert len(points) == 1001
    assert points[-1].attributes == {"a": "other", "b": "other"}
    assert points[-1].count == 200


def test_a_reader_of_deltas_hears_of_each_value_once():
    ours, told = Histogram("seconds", "", "s", BOUNDS, "route"), Told()
    ours.record(0.005, "*")
    ours.record(0.5, "*")
    (first,) = ours.metric(10, told).data.data_points
    told.at_ns = 10
    assert (first.count, list(first.bucket_counts)) == (2, [0, 1, 0, 1])
    assert ours.metric(20, told) is None
    ours.record(0.005, "*")
    (second,) = ours.metric(30, told).data.data_points
    assert (second.count, list(second.bucket_counts), second.sum) == (1, [0, 1, 0, 0], pytest.approx(0.005))
    assert second.start_time_unix_nano == 10
    assert ours.metric(40).data.data_points[0].count == 3  # whoever reads totals has them all


def test_histograms_that_counted_nothing_are_not_told():
    assert Histogram("seconds", "", "s", BOUNDS).metric(1) is None
    assert join(None, (Histogram("seconds", "", "s", BOUNDS),)) is None


def test_the_lag_is_how_late_a_timer_is(run, monkeypatch):
    monkeypatch.setattr("proxy.telemetry.lag.EVERY_S", 0.001)

    async def main() -> list[float]:
        late, enough = [], asyncio.Event()

        def tell(for_s: float) -> None:
            late.append(for_s)
            if len(late) == 3:
                enough.set()

        probe = LagProbe(asyncio.get_running_loop(), tell)
        probe.start()
        await enough.wait()
        probe.stop()
        return late

    assert all(for_s >= 0 for for_s in run(main()))
