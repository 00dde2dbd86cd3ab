"""Counts and durations: OpenTelemetry instruments, read by OTLP exporters and by /metrics alike.

Counters are plain dictionaries that observable instruments read when somebody collects: an increment costs a
tenth of a microsecond, not three. Labels are bounded: routes are patterns, and what peers choose folds into
`other` at a limit.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from proxy.telemetry import prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

    from proxy.core.report import HandshakeReport
    from proxy.telemetry.facts import DepartureFacts, SessionReport

DURATION_BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)  # fmt: skip
_LIMIT = 1000  # label sets per counter
_OTHER = "other"
_STATUS_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


class Tally:
    """A counter or gauge by labels: `labels` names them, keys are their values in that order."""

    __slots__ = ("_labels", "_values")

    def __init__(self, *labels: str) -> None:
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def add(self, amount: int, *key: str) -> None:
        """Add `amount`; a key beyond the limit counts as `other` in every label."""
        values = self._values
        if key not in values and len(values) >= _LIMIT:
            key = (_OTHER,) * len(key)
        values[key] = values.get(key, 0) + amount

    def value(self, *key: str) -> int:
        """Return the count of one key."""
        return self._values.get(key, 0)

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        """Tell the SDK all values (may run on an exporter's thread)."""
        return [
            Observation(value, dict(zip(self._labels, key, strict=True)))
            for key, value in tuple(self._values.items())
        ]


class Metrics:
    """All instruments of a process. Counting costs nothing that matters; reading is rare."""

    def __init__(self, resource: Resource, version: str, readers: Sequence[MetricReader] = ()) -> None:
        self._memory = InMemoryMetricReader()
        self._provider = MeterProvider([self._memory, *readers], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("readygate", version)
        self._handshakes = self._counter(
            "readygate.handshakes", "Finished handshakes.", "{handshake}", "outcome", "route", "policy"
        )
        self._redials = self._counter(
            "readygate.redials",
            "Further tries at the upstream leg, by what ended the try before.",
            "{try}",
            "cause",
        )
        self._closed = self._counter(
            "readygate.sessions.closed",
            "Closed sessions by close code and who ended them.",
            "{session}",
            "code",
            "side",
        )
        self._messages = self._counter(
            "readygate.messages",
            "Messages of closed sessions by who sent them and type.",
            "{message}",
            "sender",
            "type",
        )
        self._traffic = self._counter(
            "readygate.traffic", "Bytes of closed sessions by who sent them.", "By", "sender"
        )
        self._departures = self._counter(
            "readygate.departures",
            "Upstreams let go after their client had left, by how it left.",
            "{session}",
            "reason",
        )
        self._discarded = self._counter(
            "readygate.departure.discarded",
            "Messages of the upstream discarded after the client left.",
            "{message}",
        )
        self._http = self._counter(
            "readygate.http.requests",
            "HTTP requests passed through, by status class.",
            "{request}",
            "status_class",
        )
        self._limits = self._counter(
            "readygate.limits.hit", "Requests refused by a limit of the policy.", "{request}", "limit"
        )
        self._guard = self._counter(
            "readygate.guard.refused",
            "Requests that were not let in, by what spoke against them.",
            "{request}",
            "reason",
        )
        self._denied = self._counter(
            "readygate.auth.failures",
            "Requests without a good token, by what is wrong.",
            "{request}",
            "reason",
        )
        self._key_sets = self._counter(
            "readygate.auth.key_sets",
            "Times that a key set was fetched, by what came of it.",
            "{fetch}",
            "result",
        )
        self._reloads = self._counter(
            "readygate.policy.reloads",
            "Times that the policy was loaded again, by what came of it.",
            "{reload}",
            "result",
        )
        self._pending = self._gauge(
            "readygate.handshakes.pending", "Handshakes now under way.", "{handshake}"
        )
        self._active = self._gauge("readygate.sessions.active", "Sessions now open.", "{session}")
        build = self._gauge(
            "readygate.build.info", "Build of this process, always 1.", "", "version", "python"
        )
        build.add(1, version, platform.python_version())
        self._duration = self._meter.create_histogram(
            "readygate.handshake.duration",
            unit="s",
            description="From the upgrade request to the open gate, or to the refusal.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        )

    def _counter(self, name: str, description: str, unit: str, *labels: str) -> Tally:
        tally = Tally(*labels)
        self._meter.create_observable_counter(name, [tally.observe], unit, description)
        return tally

    def _gauge(self, name: str, description: str, unit: str, *labels: str) -> Tally:
        tally = Tally(*labels)
        self._meter.create_observable_up_down_counter(name, [tally.observe], unit, description)
        return tally

    @property
    def pending(self) -> int:
        """Handshakes now under way."""
        return self._pending.value()

    @property
    def active(self) -> int:
        """Sessions now open."""
        return self._active.value()

    def handshake_started(self) -> None:
        """Count a handshake as pending until `handshake_finished`."""
        self._pending.add(1)

    def handshake_finished(self, report: HandshakeReport, route: str, policy: str, duration_s: float) -> None:
        """Count a finished handshake by outcome, its duration and its redials."""
        self._pending.add(-1)
        self._handshakes.add(1, report.outcome.value, route, policy)
        self._duration.record(duration_s, {"outcome": report.outcome.value, "route": route})
        for cause in report.redials:
            self._redials.add(1, cause)

    def session_opened(self) -> None:
        """Count a session as active until `session_closed`."""
        self._active.add(1)

    def session_closed(self, report: SessionReport) -> None:
        """Count a closed session by code and side, and what was said in it."""
        self._active.add(-1)
        self._closed.add(1, str(report.code), report.ended_by)
        for sender, traffic in (("client", report.client), ("upstream", report.upstream)):
            self._messages.add(traffic.text_messages, sender, "text")
            self._messages.add(traffic.binary_messages, sender, "binary")
            self._traffic.add(traffic.bytes, sender)
        if report.departure is not None:
            self.departed(report.departure, report.reason)

    def departed(self, departure: DepartureFacts, reason: str) -> None:
        """Count an upstream that was let go after its client had left, and what it said meanwhile."""
        self._departures.add(1, reason)
        self._discarded.add(departure.discarded_messages)

    def http_request(self, status: int) -> None:
        """Count an HTTP request that was passed through, by the status that the client got."""
        self._http.add(1, _STATUS_CLASSES.get(status // 100, _OTHER))

    def limit_hit(self, limit: str) -> None:
        """Count a request that a limit (the name of its policy key) turned away."""
        self._limits.add(1, limit)

    def guard_refused(self, reason: str) -> None:
        """Count a request that was not let in for its `origin`, `host` or `path`."""
        self._guard.add(1, reason)

    def auth_failed(self, reason: str) -> None:
        """Count a request without a good token; `reason` is one of `guard.Reason`."""
        self._denied.add(1, reason)

    def key_set_fetched(self, result: str) -> None:
        """Count a fetch of a key set: `ok` or `failed`."""
        self._key_sets.add(1, result)

    def watch(self, early_bytes: Callable[[], int], tasks: Callable[[], int]) -> None:
        """Tell from now on what these return: the early bytes held, the event loop's tasks. Call it once."""
        gauge = self._meter.create_observable_up_down_counter
        gauge(
            "readygate.early.bytes", [lambda _: [Observation(early_bytes())]], "By", "Early bytes now held."
        )
        gauge("readygate.tasks", [lambda _: [Observation(tasks())]], "{task}", "Tasks of the event loop now.")

    def reloaded(self, result: str) -> None:
        """Count a reload of the policy: `switched`, `unchanged` or `refused`."""
        self._reloads.add(1, result)

    def prometheus(self) -> str:
        """Return everything in the Prometheus text format; empty with OTEL_SDK_DISABLED."""
        return prometheus.render(self._memory.get_metrics_data())

    def shutdown(self, timeout_s: float) -> None:
        """Export what is left within the time (blocks for as long)."""
        self._provider.shutdown(timeout_millis=timeout_s * 1000)
