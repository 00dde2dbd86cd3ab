"""Counts and durations: what is counted, under which names and labels. How it is told: `instruments`.

Labels are bounded: routes are patterns, close codes that a client chose are told by their range, and whatever
else there is folds into `other` at a limit. Who collects may be an exporter's thread; everything else happens
on the event loop's.
"""

from __future__ import annotations

import platform
import threading
from typing import TYPE_CHECKING, Protocol

from opentelemetry.metrics import Observation

from proxy.core.report import StageOutcome
from proxy.telemetry.instruments import Instruments
from proxy.telemetry.spans import revision
from proxy.telemetry.tally import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from proxy.core.report import HandshakeReport
    from proxy.telemetry.facts import DepartureFacts, Said, SessionReport
    from proxy.telemetry.histogram import Reader
    from proxy.telemetry.tally import Tally

DURATION_BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)  # fmt: skip
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# RFC 6455 7.4.2: 1000-2999 are the protocol's, 3000-3999 registered, 4000-4999 private. So far up to 1015.
_PROTOCOL_CODES = range(1000, 1016)
_CODE_RANGES = {3: "3xxx", 4: "4xxx"}
_STATUS_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


class OpenSession(Protocol):
    """A session while it is open: what counts what the client and the upstream say."""

    said: tuple[Said, Said]


class Watched(Protocol):
    """What is read when somebody collects, maybe on another thread. Widths and times in ms."""

    def ready(self) -> int:
        """Whether new sessions are welcome: 1, or 0."""

    def early_bytes(self) -> int:
        """Early bytes that are held now."""

    def tasks(self) -> int:
        """Tasks that the event loop has now."""

    def learned_windows(self) -> Mapping[tuple[str, str], float]:
        """Stabilization windows by (route, leg)."""

    def learned_quiets(self) -> Mapping[str, float]:
        """Quiet times of departure by route."""


class Metrics:
    """All instruments of a process. Counting costs nothing that matters; reading is rare."""

    def __init__(self, resource: Resource, version: str, readers: Sequence[Reader] = ()) -> None:
        self._open: set[OpenSession] = set()
        self._closing = threading.Lock()  # what a session said is in the totals or in `_open`, never in both
        self._instruments = Instruments(resource, version, readers)
        counter, level = self._instruments.counter, self._instruments.level
        histogram = self._instruments.histogram
        self._handshakes = counter(
            "readygate.handshakes", "Finished handshakes.", "{handshake}", "outcome", "route", "policy"
        )
        self._redials = counter(
            "readygate.redials",
            "Further tries at the upstream leg, by what ended the try before.",
            "{try}",
            "cause",
            "route",
        )
        self._closed = counter(
            "readygate.sessions.closed",
            "Closed sessions by close code and who ended them.",
            "{session}",
            "code",
            "side",
            "route",
        )
        self._messages = counter(
            "readygate.messages",
            "Messages of sessions by who sent them and type.",
            "{message}",
            "sender",
            "type",
            live=self._messages_now,
        )
        self._traffic = counter(
            "readygate.traffic",
            "Bytes of payload in sessions by who sent them and type.",
            "By",
            "sender",
            "type",
            live=self._traffic_now,
        )
        self._departures = counter(
            "readygate.departures",
            "Upstreams let go after their client had left, by how it left.",
            "{session}",
            "reason",
            "route",
        )
        self._discarded = counter(
            "readygate.departure.discarded",
            "Messages of the upstream discarded after the client left.",
            "{message}",
        )
        self._http = counter(
            "readygate.http.requests",
            "HTTP requests passed through, by status class.",
            "{request}",
            "status_class",
        )
        self._limits = counter(
            "readygate.limits.hit", "Requests refused by a limit of the policy.", "{request}", "limit"
        )
        self._guard = counter(
            "readygate.guard.refused",
            "Requests that were not let in, by what spoke against them.",
            "{request}",
            "reason",
        )
        self._denied = counter(
            "readygate.auth.failures",
            "Requests without a good token, by what is wrong.",
            "{request}",
            "reason",
        )
        self._key_sets = counter(
            "readygate.auth.key_sets",
            "Times that a key set was fetched, by what came of it.",
            "{fetch}",
            "result",
        )
        self._reloads = counter(
            "readygate.policy.reloads",
            "Times that the policy was loaded again, by what came of it.",
            "{reload}",
            "result",
        )
        self._pending = level("readygate.handshakes.pending", "Handshakes now under way.", "{handshake}")
        self._active = level("readygate.sessions.active", "Sessions now open.", "{session}")
        build = level(
            "readygate.build.info",
            "Build and revision of this process, always 1.",
            "",
            "version",
            "python",
            "revision",
        )
        build.add(1, version, platform.python_version(), revision(resource))
        self._duration = histogram(
            "readygate.handshake.duration",
            "From the upgrade request to the open gate, or to the refusal.",
            "s",
            DURATION_BOUNDS_S,
            "outcome",
            "route",
        )
        self._stages = histogram(
            "readygate.stage.duration",
            "Stages of handshakes by leg and outcome, those of every try.",
            "s",
            DURATION_BOUNDS_S,
            "leg",
            "stage",
            "outcome",
            "route",
        )
        self._http_duration = histogram(
            "readygate.http.duration",
            "From the head of an HTTP request to the end of its response.",
            "s",
            DURATION_BOUNDS_S,
            "status_class",
        )
        self._lag = histogram(
            "readygate.event_loop.lag", "How late a timer of the event loop is.", "s", LAG_BOUNDS_S
        )

    @property
    def pending(self) -> int:
        """Handshakes now under way."""
        return self._pending.value()

    @property
    def active(self) -> int:
        """Sessions now open."""
        return self._active.value()

    def outcomes(self) -> dict[str, int]:
        """Return how many handshakes had each outcome, over all routes."""
        return self._handshakes.totals()

    def handshake_started(self) -> None:
        """Count a handshake as pending until `handshake_finished`."""
        self._pending.add(1)

    def handshake_finished(self, report: HandshakeReport, route: str, policy: str, duration_s: float) -> None:
        """Count a finished handshake by outcome, its duration and its redials."""
        self._pending.add(-1)
        self._handshakes.add(1, report.outcome.value, route, policy)
        self._duration.record(duration_s, report.outcome.value, route)
        for stage in report.stages:
            if stage.outcome is not StageOutcome.SKIPPED:
                took_s = (stage.ended_ms - stage.started_ms) / 1000
                self._stages.record(took_s, stage.role, stage.stage, stage.outcome, route)
        for cause in report.redials:
            self._redials.add(1, cause, route)

    def session_opened(self, session: OpenSession) -> None:
        """Count a session as active, and what is said in it, until `session_closed`."""
        self._active.add(1)
        with self._closing:
            self._open.add(session)

    def session_closed(self, session: OpenSession, report: SessionReport, route: str) -> None:
        """Count a closed session by code, side and route, and what was said in it."""
        self._active.add(-1)
        self._closed.add(1, _code(report), report.ended_by, route)
        with self._closing:
            self._open.discard(session)
            for sender, traffic in (("client", report.client), ("upstream", report.upstream)):
                self._messages.add(traffic.text_messages, sender, "text")
                self._messages.add(traffic.binary_messages, sender, "binary")
                self._traffic.add(traffic.text_bytes, sender, "text")
                self._traffic.add(traffic.binary_bytes, sender, "binary")
        if report.departure is not None:
            self.departed(report.departure, report.reason, route)

    def _messages_now(self) -> dict[tuple[str, ...], int]:
        """Return messages of closed sessions and, so far, of open ones. It never falls."""
        return self._so_far(self._messages, "{}")

    def _traffic_now(self) -> dict[tuple[str, ...], int]:
        """Return the same in bytes."""
        return self._so_far(self._traffic, "{}_bytes")

    def _so_far(self, closed: Tally, counter: str) -> dict[tuple[str, ...], int]:
        with self._closing:
            told, sessions = closed.values(), list(self._open)
        for sender, side in (("client", 0), ("upstream", 1)):
            for kind in ("text", "binary"):
                name = counter.format(kind)
                said = sum(getattr(session.said[side], name) for session in sessions)
                told[sender, kind] = told.get((sender, kind), 0) + said
        return told

    def departed(self, departure: DepartureFacts, reason: str, route: str) -> None:
        """Count an upstream that was let go after its client had left, and what it said meanwhile."""
        self._departures.add(1, reason, route)
        self._discarded.add(departure.discarded_messages)

    def http_request(self, status: int, duration_s: float) -> None:
        """Count an HTTP request by the status that the client got, and how long it took."""
        kind = _STATUS_CLASSES.get(status // 100, OTHER)
        self._http.add(1, kind)
        self._http_duration.record(duration_s, kind)

    def lagged(self, for_s: float) -> None:
        """Note how late the event loop was."""
        self._lag.record(for_s)

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

    def watch(self, watched: Watched) -> None:
        """Tell from now on what this says. Call it once."""
        made = self._instruments
        made.watch_level("readygate.ready", "Whether new sessions are welcome: 1, or 0.", "", watched.ready)
        made.watch_level("readygate.early.bytes", "Early bytes now held.", "By", watched.early_bytes)
        made.watch_level("readygate.tasks", "Tasks of the event loop now.", "{task}", watched.tasks)
        made.watch_gauge(
            "readygate.window",
            "How long a leg has to stay up before it is believed, as learned.",
            "s",
            lambda: _windows(watched.learned_windows()),
        )
        made.watch_gauge(
            "readygate.quiet",
            "How long an upstream has to be silent before it hears that its client left, as learned.",
            "s",
            lambda: _quiets(watched.learned_quiets()),
        )

    def watch_spans(self, dropped: Callable[[], int]) -> None:
        """Tell from now on how many spans were dropped. Call it once."""
        self._instruments.watch_counter(
            "readygate.spans.dropped",
            "Spans that no collector got: it was away, or too slow.",
            "{span}",
            dropped,
        )

    def reloaded(self, result: str) -> None:
        """Count a reload of the policy: `switched`, `unchanged` or `refused`."""
        self._reloads.add(1, result)

    def prometheus(self) -> str:
        """Return everything in the Prometheus text format; empty with OTEL_SDK_DISABLED."""
        return self._instruments.prometheus()

    def shutdown(self, timeout_s: float) -> None:
        """Export what is left within the time (blocks for as long)."""
        self._instruments.shutdown(timeout_s)


def _code(report: SessionReport) -> str:
    """Return the close code of a session as a label.

    A client may choose any, so only the range of its own is told.
    """
    code = report.code
    if code in _PROTOCOL_CODES:
        return str(code)
    chosen = _CODE_RANGES.get(code // 1000, OTHER)
    return chosen if chosen == OTHER or report.ended_by == "client" else str(code)


def _windows(known: Mapping[tuple[str, str], float]) -> list[Observation]:
    return [Observation(ms / 1000, {"route": route, "leg": leg}) for (route, leg), ms in known.items()]


def _quiets(known: Mapping[str, float]) -> list[Observation]:
    return [Observation(ms / 1000, {"route": route}) for route, ms in known.items()]
