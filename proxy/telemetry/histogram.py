"""Histograms of our own, in OpenTelemetry's data model: 0.3 microseconds a value where the SDK's take 9.

OpenTelemetry has observable counters and gauges, but no observable histogram. So buckets are counted here,
and their points join what the SDK has collected on its way to an exporter (`Reader`) or to /metrics (`join`).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

from proxy.telemetry.tally import LIMIT, OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics.export import MetricExporter

SCOPE = "readygate"


class Histogram:
    """Counts values in buckets by labels: `labels` names them, keys are their values in that order.

    `bounds` are the upper ends of the buckets, themselves included, in the metric's unit.
    """

    __slots__ = ("_bounds", "_labels", "_series", "_since_ns", "description", "name", "unit")

    def __init__(self, name: str, description: str, unit: str, bounds: Sequence[float], *labels: str) -> None:
        self.name, self.description, self.unit = name, description, unit
        self._bounds = tuple(bounds)
        self._labels = labels
        self._series: dict[tuple[str, ...], _Series] = {}
        self._since_ns = time.time_ns()

    def record(self, value: float, *key: str) -> None:
        """Count a value; a key beyond the limit counts as `other` in every label."""
        series = self._series.get(key)
        if series is None:
            series = self._new(key)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.total += value

    def _new(self, key: tuple[str, ...]) -> _Series:
        if len(self._series) >= LIMIT:
            key = (OTHER,) * len(key)
        return self._series.setdefault(key, _Series([0] * (len(self._bounds) + 1)))

    def metric(self, at_ns: int, told: Told | None = None) -> Metric | None:
        """Return all points, None for none. `told`: only what came since a reader was told last."""
        points = [
            point
            for key, series in tuple(self._series.items())
            if (point := self._point(key, series.copy(), at_ns, told)).count
        ]
        if not points:
            return None
        temporality = AggregationTemporality.CUMULATIVE if told is None else AggregationTemporality.DELTA
        return Metric(self.name, self.description, self.unit, HistogramData(points, temporality))

    def _point(
        self, key: tuple[str, ...], series: _Series, at_ns: int, told: Told | None
    ) -> HistogramDataPoint:
        since_ns = self._since_ns
        if told is not None:
            since_ns = told.at_ns or since_ns
            series = told.new(self.name, key, series)
        return HistogramDataPoint(
            attributes=dict(zip(self._labels, key, strict=True)),
            start_time_unix_nano=since_ns,
            time_unix_nano=at_ns,
            count=sum(series.counts),
            sum=series.total,
            bucket_counts=series.counts,
            explicit_bounds=self._bounds,
            min=None,  # type: ignore[arg-type] # optional in OTLP, and nothing that a dashboard needs
            max=None,  # type: ignore[arg-type]
        )


class _Series:
    """The buckets of one set of labels, and the sum of what is in them."""

    __slots__ = ("counts", "total")

    def __init__(self, counts: list[int], total: float = 0.0) -> None:
        self.counts = counts
        self.total = total

    def copy(self) -> _Series:
        return _Series(self.counts.copy(), self.total)


class Told:
    """What a reader with delta temporality has been told, and when."""

    def __init__(self) -> None:
        self.at_ns = 0
        self._series: dict[tuple[str, tuple[str, ...]], _Series] = {}

    def new(self, name: str, key: tuple[str, ...], now: _Series) -> _Series:
        """Return what came since the last time, and note that it is told."""
        last = self._series.get((name, key))
        self._series[name, key] = now
        if last is None:
            return now
        counts = [one - other for one, other in zip(now.counts, last.counts, strict=True)]
        return _Series(counts, now.total - last.total)


def join(
    collected: MetricsData | None, histograms: Sequence[Histogram], told: Told | None = None
) -> MetricsData | None:
    """Return what the SDK has collected, with our histograms in our scope."""
    if collected is None or not histograms:
        return collected
    at_ns = time.time_ns()
    ours = [metric for one in histograms if (metric := one.metric(at_ns, told)) is not None]
    if told is not None:
        told.at_ns = at_ns
    return MetricsData(
        [
            replace(
                resource,
                scope_metrics=[
                    replace(scope, metrics=[*scope.metrics, *ours]) if scope.scope.name == SCOPE else scope
                    for scope in resource.scope_metrics
                ],
            )
            for resource in collected.resource_metrics
        ]
    )


class Reader(PeriodicExportingMetricReader):
    """The SDK's periodic reader, which exports our histograms too. `delta`: as the exporter prefers it."""

    def __init__(self, exporter: MetricExporter, *, delta: bool = False) -> None:
        self.histograms: Sequence[Histogram] = ()
        self._told = Told() if delta else None
        super().__init__(exporter)

    def _receive_metrics(  # the SDK documents it as "intended to be overridden by subclass"
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> None:
        joined = join(metrics_data, self.histograms, self._told) or metrics_data
        super()._receive_metrics(joined, timeout_millis, **kwargs)
