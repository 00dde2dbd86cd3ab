"""Reports and requests as the core and the edge make them, for the telemetry tests."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.core.plan import Evidence, Role, Stage
from proxy.core.report import EarlyCount, HandshakeReport, Outcome, StageOutcome, StageRecord
from proxy.telemetry import RequestFacts, SessionReport, Traffic
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.propagation import Propagation
from proxy.telemetry.spans import Recorder
from proxy.telemetry.telemetry import Telemetry

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
START_MS = 1_000_000.0


def request(
    target: str = "/ws/room?x=1",
    headers: Sequence[tuple[bytes, bytes]] = (),
    peer: str = "10.1.2.3",
    client: str = "",
) -> RequestFacts:
    return RequestFacts(
        method="GET",
        target=target,
        headers=((b"Host", b"chat.example:8443"), (b"User-Agent", b"tests/1"), *headers),
        peer=peer,
        peer_port=40000,
        policy="production",
        route="/ws/**",
        client=client,
    )


def stage(
    role: Role, name: Stage, started_ms: float, ended_ms: float, *, attempt: int = 1, **changes: object
) -> StageRecord:
    told = {
        "outcome": StageOutcome.PROVED,
        "evidence": Evidence.PONG if name is Stage.VALIDATION else Evidence.ACKED,
        "budget_ms": 75.0,
        "marks": (("ping", started_ms), ("pong", ended_ms)) if name is Stage.VALIDATION else (),
    }
    return StageRecord(role, name, attempt, started_ms=started_ms, ended_ms=ended_ms, **(told | changes))


def six_stages(start_ms: float = START_MS) -> tuple[StageRecord, ...]:
    names = (Stage.PROPAGATION, Stage.VALIDATION, Stage.STABILIZATION)
    return tuple(
        stage(role, name, start_ms + offset + index, start_ms + offset + index + 1)
        for role, offset in ((Role.UPSTREAM, 2.0), (Role.CLIENT, 6.0))
        for index, name in enumerate(names)
    )


def report(outcome: Outcome = Outcome.READY, status: int | None = 101, **changes: object) -> HandshakeReport:
    told = {
        "redials": (),
        "stages": six_stages(),
        "early_client": EarlyCount(2, 34),
        "early_upstream": EarlyCount(1, 17),
    }
    return HandshakeReport(outcome, status, **(told | changes))


def closed(
    ended_by: str = "client", client_code: int | None = 1000, upstream_code: int | None = 1000
) -> SessionReport:
    return SessionReport(ended_by, client_code, upstream_code, Traffic(3, 1, 300, 100), Traffic(5, 0, 5000))


class Held:
    """What a gate tells when its metrics are read; a test sets it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.welcome = 1
        self.windows: dict[tuple[str, str], float] = {("*", "upstream"): 25.0}
        self.quiets = {"*": 50.0}

    def ready(self) -> int:
        return self.welcome

    def early_bytes(self) -> int:
        return self.bytes

    def tasks(self) -> int:
        return 3

    def learned_windows(self) -> dict[tuple[str, str], float]:
        return self.windows

    def learned_quiets(self) -> dict[str, float]:
        return self.quiets


def telemetry(*exporters: SpanExporter, keep_failures: bool = False) -> Telemetry:
    resource = Resource({"service.name": "readygate"})
    recorder = Recorder(exporters, resource, "0", keep_failures=keep_failures)
    return Telemetry(recorder, Metrics(resource, "0"), Propagation.from_environment({}))


class Recorded:
    """A telemetry with an in-memory exporter; `spans()` flushes and returns them by name."""

    def __init__(self, *, keep_failures: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        self.telemetry = telemetry(self._exporter, keep_failures=keep_failures)

    def all(self) -> list[ReadableSpan]:
        self.telemetry.shutdown(10)
        return list(self._exporter.get_finished_spans())

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.all()}


def open_session(telemetry: Telemetry, facts: RequestFacts | None = None, outcome: Outcome = Outcome.READY):
    """Play a whole successful handshake; return its trace, the session's and the upstream's trace headers."""
    trace = telemetry.handshake(facts or request(), START_MS)
    trace.connect_started(1, START_MS)
    trace.connect_ended(START_MS + 1, None)
    headers = trace.upgrade_started(1, START_MS + 1)
    trace.upgrade_ended(START_MS + 2, 101, None)
    trace.accept_ended(START_MS + 5, START_MS + 6)
    trace.flush_ended(START_MS + 9, START_MS + 9.5, 34, 17)
    session = trace.session(START_MS + 10)
    trace.finish(report(outcome), START_MS + 10)
    return trace, session, headers
