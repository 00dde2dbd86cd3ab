"""The Prometheus text exposition format, version 0.0.4, of an OpenTelemetry collection.

https://prometheus.io/docs/instrumenting/exposition_formats/ and OpenTelemetry's "Prometheus and OpenMetrics
Compatibility": dots become underscores, units and `_total` are suffixes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint, Sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.metrics.export import Metric, MetricsData

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNITS = {"s": "seconds", "By": "bytes"}
_INVALID = re.compile(r"[^a-zA-Z0-9_:]")


def render(data: MetricsData | None) -> str:
    """Return the text of a collection; "" for none."""
    if data is None:
        return ""
    metrics = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    return "".join(
        line + "\n" for metric in sorted(metrics, key=lambda metric: metric.name) for line in _lines(metric)
    )


def _lines(metric: Metric) -> Iterable[str]:
    kind = _kind(metric)
    name = _name(metric, kind)
    yield f"# HELP {name} {_escape_help(metric.description or '')}"
    yield f"# TYPE {name} {kind}"
    for point in metric.data.data_points:
        if isinstance(point, HistogramDataPoint):
            yield from _histogram(name, point)
        elif isinstance(point, NumberDataPoint):
            yield f"{name}{_labels(point.attributes or {})} {_number(point.value)}"


def _kind(metric: Metric) -> str:
    if isinstance(metric.data, Sum):
        return "counter" if metric.data.is_monotonic else "gauge"
    return "histogram" if any(isinstance(p, HistogramDataPoint) for p in metric.data.data_points) else "gauge"


def _name(metric: Metric, kind: str) -> str:
    name = _INVALID.sub("_", metric.name)
    unit = _UNITS.get(metric.unit or "", "")
    if unit and not name.endswith(unit):
        name += f"_{unit}"
    return f"{name}_total" if kind == "counter" else name


def _histogram(name: str, point: HistogramDataPoint) -> Iterable[str]:
    labels = point.attributes or {}
    total = 0
    for bound, count in zip((*point.explicit_bounds, float("inf")), point.bucket_counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {total}"
    yield f"{name}_sum{_labels(labels)} {_number(point.sum)}"
    yield f"{name}_count{_labels(labels)} {point.count}"


def _labels(attributes: Mapping[str, object]) -> str:
    if not attributes:
        return ""
    pairs = (f'{_INVALID.sub("_", key)}="{_escape_value(str(value))}"' for key, value in attributes.items())
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _escape_help(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
