"""How counts reach those who collect: instruments of OpenTelemetry, read by OTLP exporters and by /metrics.

What is counted, and under which names, is in `metrics`. Who collects may be an exporter's thread.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from proxy.telemetry import prometheus
from proxy.telemetry.histogram import SCOPE, Histogram, join
from proxy.telemetry.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from proxy.telemetry.histogram import Reader


class Instruments:
    """Makes the instruments of a process. Each is told to all `readers` and to `prometheus`.

    Names are OpenTelemetry's (`readygate.handshakes`), units UCUM's (`s`, `By`, `{handshake}`).
    """

    def __init__(self, resource: Resource, version: str, readers: Sequence[Reader]) -> None:
        self._memory = InMemoryMetricReader()
        self._provider = MeterProvider([self._memory, *readers], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(SCOPE, version)
        self._histograms: list[Histogram] = []
        for reader in readers:
            reader.histograms = self._histograms

    def counter(
        self,
        name: str,
        description: str,
        unit: str,
        *labels: str,
        live: Callable[[], Mapping[tuple[str, ...], int]] | None = None,
    ) -> Tally:
        """Make a counter that never falls; `live` as for `Tally`."""
        tally = Tally(*labels, live=live)
        self._meter.create_observable_counter(name, [tally.observe], unit, description)
        return tally

    def level(self, name: str, description: str, unit: str, *labels: str) -> Tally:
        """Make a count that rises and falls."""
        tally = Tally(*labels)
        self._meter.create_observable_up_down_counter(name, [tally.observe], unit, description)
        return tally

    def histogram(
        self, name: str, description: str, unit: str, bounds: Sequence[float], *labels: str
    ) -> Histogram:
        """Make a histogram; `bounds` as for `Histogram`."""
        made = Histogram(name, description, unit, bounds, *labels)
        self._histograms.append(made)
        return made

    def watch_level(self, name: str, description: str, unit: str, read: Callable[[], int]) -> None:
        """Tell what `read` returns when somebody collects."""
        self._meter.create_observable_up_down_counter(
            name, [lambda _: [Observation(read())]], unit, description
        )

    def watch_counter(self, name: str, description: str, unit: str, read: Callable[[], int]) -> None:
        """Tell the same of a count that never falls."""
        self._meter.create_observable_counter(name, [lambda _: [Observation(read())]], unit, description)

    def watch_gauge(
        self, name: str, description: str, unit: str, read: Callable[[], list[Observation]]
    ) -> None:
        """Tell the same of values that do not add up."""
        self._meter.create_observable_gauge(name, [lambda _: read()], unit, description)

    def prometheus(self) -> str:
        """Return everything in the Prometheus text format; empty with OTEL_SDK_DISABLED."""
        return prometheus.render(join(self._memory.get_metrics_data(), self._histograms))

    def shutdown(self, timeout_s: float) -> None:
        """Export what is left within the time (blocks for as long)."""
        with contextlib.suppress(Exception):  # the SDK's word for a time that was too short
            self._provider.shutdown(timeout_millis=timeout_s * 1000)
