from __future__ import annotations

import json
import threading
import time

import pytest
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import StatusCode

from proxy.core.plan import Evidence, Role, Stage
from proxy.core.report import Outcome, StageOutcome
from proxy.telemetry import DepartureFacts, SessionReport, Traffic
from proxy.telemetry.telemetry import Telemetry
from tests.telemetry.reports import (
    PARENT_ID,
    START_MS,
    TRACE_ID,
    TRACEPARENT,
    Recorded,
    closed,
    open_session,
    report,
    request,
    stage,
    telemetry,
)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_a_handshake_makes_one_trace_with_every_step_as_a_child(recorded):
    trace, _, _ = open_session(recorded.telemetry)
    spans = recorded.spans()
    assert set(spans) == {
        "websocket.handshake", "upstream.connect", "upstream.upgrade", "client.accept", "gate.flush",
        "upstream.propagation", "upstream.validation", "upstream.stabilization",
        "client.propagation", "client.validation", "client.stabilization",
    }  # fmt: skip
    root = spans.pop("websocket.handshake")
    assert root.parent is None
    assert f"{root.context.trace_id:032x}" == trace.trace_id
    assert f"{root.context.span_id:016x}" == trace.span_id
    for child in spans.values():
        assert child.parent == root.context
        assert child.context.trace_id == root.context.trace_id
    assert len({span.context.span_id for span in spans.values()} | {root.context.span_id}) == 11


def test_the_handshake_is_a_server_span_and_the_tries_are_client_spans(recorded):
    open_session(recorded.telemetry)
    kinds = {name: span.kind for name, span in recorded.spans().items()}
    assert kinds["websocket.handshake"] is SpanKind.SERVER
    assert kinds["upstream.connect"] is kinds["upstream.upgrade"] is SpanKind.CLIENT
    assert kinds["client.accept"] is kinds["gate.flush"] is kinds["client.validation"] is SpanKind.INTERNAL


def test_the_handshake_tells_what_was_asked_and_what_came_of_it(recorded):
    forged = [(b"X-Forwarded-For", b"8.8.8.8")]  # who the client is, the door has judged
    open_session(recorded.telemetry, request(headers=forged, client="203.0.113.9"))
    told = dict(recorded.spans()["websocket.handshake"].attributes)
    assert told == {
        "readygate.outcome": "ready",
        "readygate.policy": "production",
        "readygate.route": "/ws/**",
        "readygate.redials": 0,
        "readygate.early.client.messages": 2,
        "readygate.early.client.bytes": 34,
        "readygate.early.upstream.messages": 1,
        "readygate.early.upstream.bytes": 17,
        "http.request.method": "GET",
        "http.response.status_code": 101,
        "http.route": "/ws/**",
        "url.path": "/ws/room",
        "url.query": "x=1",
        "url.scheme": "http",
        "server.address": "chat.example",
        "server.port": 8443,
        "user_agent.original": "tests/1",
        "network.peer.address": "10.1.2.3",
        "network.peer.port": 40000,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "203.0.113.9",
    }


def test_stage_spans_have_their_own_times_and_ping_and_pong_events(recorded):
    open_session(recorded.telemetry)
    spans = recorded.spans()
    root, validation = spans["websocket.handshake"], spans["upstream.validation"]
    assert validation.start_time - root.start_time == 3_000_000
    assert validation.end_time - validation.start_time == 1_000_000
    assert [(event.name, event.timestamp) for event in validation.events] == [
        ("ping", validation.start_time),
        ("pong", validation.end_time),
    ]
    assert dict(validation.attributes) == {
        "readygate.evidence": "pong",
        "readygate.budget_ms": 75.0,
        "readygate.stage.outcome": "proved",
        "readygate.attempt": 1,
    }


def test_monotonic_times_become_times_of_the_day(recorded):
    now_ms, now_ns = time.monotonic_ns() / 1e6, time.time_ns()
    trace = recorded.telemetry.handshake(request(), now_ms)
    trace.finish(report(stages=()), now_ms + 1)
    assert abs(recorded.spans()["websocket.handshake"].start_time - now_ns) < 1_000_000_000


def test_each_redial_is_a_try_of_its_own_with_its_error(recorded):
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.connect_started(1, START_MS)
    trace.connect_ended(START_MS + 1, "refused")
    trace.connect_started(2, START_MS + 30)
    trace.connect_ended(START_MS + 31, None)
    trace.upgrade_started(2, START_MS + 31)
    trace.upgrade_ended(START_MS + 33, 503, None)
    trace.upgrade_started(3, START_MS + 90)
    trace.upgrade_ended(START_MS + 92, 101, None)
    trace.finish(report(redials=("refused", "status_503")), START_MS + 100)
    spans = recorded.all()
    connects = [span for span in spans if span.name == "upstream.connect"]
    upgrades = [span for span in spans if span.name == "upstream.upgrade"]
    assert [span.attributes.get("error.type") for span in connects] == ["refused", None]
    assert [span.attributes.get("http.request.resend_count") for span in connects] == [None, 1]
    assert [span.attributes["http.response.status_code"] for span in upgrades] == [503, 101]
    assert [span.attributes["http.request.resend_count"] for span in upgrades] == [1, 2]
    assert [span.status.status_code for span in upgrades] == [StatusCode.ERROR, StatusCode.UNSET]
    root = next(span for span in spans if span.name == "websocket.handshake")
    assert root.attributes["readygate.redials"] == 2
    assert root.attributes["readygate.redial.causes"] == ("refused", "status_503")
    assert root.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(("status", "error"), [(429, None), (431, None), (503, "503")])
def test_a_handshake_that_a_limit_refused_names_it_and_is_an_error_only_if_we_are_short_of_room(
    recorded, status, error
):
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.finish(report(Outcome.REJECTED, status, stages=(), limit="sessions_per_client"), START_MS + 1)
    told = recorded.spans()["websocket.handshake"].attributes
    assert told["readygate.limit"] == "sessions_per_client"
    assert told["http.response.status_code"] == status
    assert told.get("error.type") == error


def test_a_try_that_was_running_at_the_end_ends_with_it(recorded):
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.connect_started(1, START_MS)
    trace.finish(report(Outcome.TIMEOUT, 503, stages=()), START_MS + 50)
    connect = recorded.spans()["upstream.connect"]
    assert connect.end_time - connect.start_time == 50_000_000
    assert connect.attributes["error.type"] == "timeout"


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Outcome.READY, 101, None),
        (Outcome.READY_UNPROVEN, 101, None),
        (Outcome.REJECTED, 403, None),
        (Outcome.ABANDONED, None, None),
        (Outcome.REJECTED, 503, "503"),
        (Outcome.TIMEOUT, 503, "timeout"),
        (Outcome.FAILED, 502, "502"),
    ],
)
def test_only_timeouts_failures_and_5xx_are_errors(recorded, outcome, status, error):
    recorded.telemetry.handshake(request(), START_MS).finish(report(outcome, status), START_MS + 1)
    root = recorded.spans()["websocket.handshake"]
    assert root.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert root.attributes.get("error.type") == error


def test_a_failed_stage_is_an_error_only_if_it_cost_a_try_or_the_handshake(recorded):
    lost = {"outcome": StageOutcome.FAILED, "evidence": Evidence.QUIET}
    stages = tuple(
        stage(Role.UPSTREAM, Stage.STABILIZATION, START_MS, START_MS + 1, attempt=attempt, **lost)
        for attempt in (1, 2)
    )
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.finish(report(Outcome.REJECTED, 403, redials=("close_1011",), stages=stages), START_MS + 1)
    spans = [span for span in recorded.all() if span.name == "upstream.stabilization"]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.UNSET]
    assert [span.attributes.get("error.type") for span in spans] == ["close_1011", None]


def test_finishing_twice_counts_once(recorded):
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.finish(report(), START_MS + 1)
    trace.finish(report(), START_MS + 2)
    assert [span.name for span in recorded.all()].count("websocket.handshake") == 1
    assert recorded.telemetry.metrics.pending == 0


def test_the_session_is_a_trace_of_its_own_linked_both_ways(recorded):
    trace, session, _ = open_session(recorded.telemetry)
    session.finish(closed(), START_MS + 5010)
    spans = recorded.spans()
    handshake, own = spans["websocket.handshake"], spans["websocket.session"]
    assert own.parent is None
    assert own.context.trace_id != handshake.context.trace_id
    assert [link.context for link in own.links] == [handshake.context]
    assert [link.context for link in handshake.links] == [own.context]
    assert own.end_time - own.start_time == 5_000_000_000
    assert (session.trace_id, session.handshake) == (f"{own.context.trace_id:032x}", trace)


def test_the_session_tells_who_ended_it_and_what_was_said(recorded):
    _, session, _ = open_session(recorded.telemetry)
    told = SessionReport(
        "client", 1001, 1000, Traffic(3, 1, 300, 100), Traffic(5, 0, 5000), DepartureFacts(2, 60, 48.5)
    )
    session.finish(told, START_MS + 11)
    span = recorded.spans()["websocket.session"]
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "readygate.policy": "production",
        "readygate.route": "/ws/**",
        "client.address": "10.1.2.3",
        "readygate.ended_by": "client",
        "readygate.end_reason": "closed",
        "readygate.close.client.code": 1001,
        "readygate.close.upstream.code": 1000,
        "readygate.client.messages": 4,
        "readygate.client.bytes": 400,
        "readygate.client.text_messages": 3,
        "readygate.client.binary_messages": 1,
        "readygate.upstream.messages": 5,
        "readygate.upstream.bytes": 5000,
        "readygate.upstream.text_messages": 5,
        "readygate.upstream.binary_messages": 0,
        "readygate.departure.discarded_messages": 2,
        "readygate.departure.discarded_bytes": 60,
        "readygate.departure.quiet_ms": 48.5,
    }


@pytest.mark.parametrize(
    ("ended_by", "client_code", "upstream_code", "error"),
    [
        ("client", 1000, 1000, None),
        ("client", 1006, 1001, None),
        ("upstream", 4401, 4401, None),
        ("gate", 1012, 1001, None),
        ("upstream", 1014, None, "close_1006"),
        ("upstream", 1011, 1011, "close_1011"),
    ],
)
def test_only_an_upstream_that_broke_makes_the_session_an_error(
    recorded, ended_by, client_code, upstream_code, error
):
    _, session, _ = open_session(recorded.telemetry)
    session.finish(closed(ended_by, client_code, upstream_code), START_MS + 11)
    span = recorded.spans()["websocket.session"]
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


def test_the_callers_trace_goes_on_to_the_upstream_with_its_state(recorded):
    facts = request(headers=[(b"TraceParent", TRACEPARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    trace, _, headers = open_session(recorded.telemetry, facts)
    spans = recorded.spans()
    assert trace.trace_id == TRACE_ID
    assert f"{spans['websocket.handshake'].parent.span_id:016x}" == PARENT_ID
    upgrade = f"{spans['upstream.upgrade'].context.span_id:016x}"
    assert dict(headers) == {
        b"traceparent": f"00-{TRACE_ID}-{upgrade}-01".encode(),
        b"tracestate": b"a=1,b=2",
    }
    assert recorded.telemetry.trace_fields == {b"traceparent", b"tracestate"}


def test_googles_header_counts_when_there_is_no_traceparent(recorded):
    cloud = (b"X-Cloud-Trace-Context", f"{TRACE_ID}/{int(PARENT_ID, 16)};o=1".encode())
    trace, _, _ = open_session(recorded.telemetry, request(headers=[cloud]))
    root = recorded.spans()["websocket.handshake"]
    assert trace.trace_id == TRACE_ID
    assert f"{root.parent.span_id:016x}" == PARENT_ID


def test_traceparent_wins_over_googles_header(recorded):
    cloud = (b"X-Cloud-Trace-Context", b"ffffffffffffffffffffffffffffffff/1;o=1")
    trace = recorded.telemetry.handshake(request(headers=[cloud, (b"traceparent", TRACEPARENT)]), START_MS)
    assert trace.trace_id == TRACE_ID


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
        [(b"traceparent", b"ff-" + TRACEPARENT[3:])],
        [(b"traceparent", b"\xff\xfe")],
        [(b"traceparent", TRACEPARENT), (b"traceparent", TRACEPARENT)],
        [(b"x-cloud-trace-context", f"{TRACE_ID}/0;o=1".encode())],
        [(b"x-cloud-trace-context", f"{TRACE_ID}/99999999999999999999;o=1".encode())],
        [(b"x-cloud-trace-context", b"nonsense")],
    ],
)
def test_a_broken_context_is_ignored(recorded, headers):
    trace, _, sent = open_session(recorded.telemetry, request(headers=headers))
    root = recorded.spans()["websocket.handshake"]
    assert root.parent is None
    assert trace.trace_id != TRACE_ID
    assert dict(sent)[b"traceparent"].split(b"-")[1].decode() == trace.trace_id


def test_a_caller_that_does_not_sample_is_followed(recorded):
    facts = request(headers=[(b"traceparent", TRACEPARENT[:-2] + b"00")])
    trace, session, headers = open_session(recorded.telemetry, facts)
    session.finish(closed(), START_MS + 11)
    assert recorded.all() == []
    assert dict(headers)[b"traceparent"] == f"00-{TRACE_ID}-{trace.span_id}-00".encode()


def test_with_tracing_off_the_ids_exist_and_the_callers_context_passes_unchanged():
    off = telemetry()
    alone, _, sent_alone = open_session(off)
    assert len(alone.trace_id) == 32
    assert int(alone.trace_id, 16) > 0
    assert sent_alone == []  # a made-up unsampled parent would switch the backend's own tracing off
    joined, session, sent = open_session(off, request(headers=[(b"traceparent", TRACEPARENT)]))
    assert (joined.trace_id, joined.span_id, session.trace_id) == (TRACE_ID, PARENT_ID, TRACE_ID)
    assert sent == [(b"traceparent", TRACEPARENT)]


def test_attribute_values_are_short_valid_text_and_few(recorded):
    facts = request(
        target="/" + "ä" * 400 + "?" + "q" * 9000,
        headers=[
            (b"User-Agent", b"\xff" * 3000),
            (b"Sec-WebSocket-Protocol", b"a, b"),
            (b"Origin", b"https://o"),
        ],
    )
    trace = recorded.telemetry.handshake(facts, START_MS)
    trace.finish(report(Outcome.FAILED, 502, redials=("lost",) * 40, close_code=1011), START_MS + 1)
    told = recorded.spans()["websocket.handshake"].attributes
    assert len(told) <= 32
    for value in told.values():
        assert not isinstance(value, str) or len(value.encode()) <= 256
    json.dumps(dict(told))


def test_nothing_configured_means_no_thread_and_no_log_line(monkeypatch, caplog):
    before = threading.active_count()
    made = Telemetry.from_environment({}, version="0")
    open_session(made)[1].finish(closed(), START_MS + 20)
    assert threading.active_count() == before
    # an exporter of another test may still complain, on a thread of its own
    ours = [entry for entry in caplog.records if entry.thread == threading.get_ident()]
    assert {entry.name for entry in ours} <= {"readygate.session"}
    made.shutdown(1)


@pytest.mark.parametrize(
    "environ",
    [
        {
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        },
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_telemetry_can_be_switched_off(monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = Telemetry.from_environment(environ, version="0")
    trace, _, _ = open_session(made)
    assert not made.recorder.on
    assert int(trace.trace_id, 16) > 0
    made.shutdown(1)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER: found 'zipkin', expected none, console or otlp",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTLP protocol: found 'http/json', expected http/protobuf or grpc",
        ),
        ({"OTEL_PROPAGATORS": "smoke"}, "OTEL_PROPAGATORS: found 'smoke'"),
    ],
)
def test_a_wrong_setting_is_named_and_sessions_are_served(caplog, environ, said):
    made = Telemetry.from_environment(environ, version="0")
    open_session(made)
    assert said in caplog.text
    made.shutdown(1)


def test_listeners_hear_of_handshakes_and_sessions():
    heard = []
    made = telemetry()
    made.listeners.append(lambda kind, fields: heard.append((kind, fields)))
    trace, session, _ = open_session(made)
    session.finish(closed(), START_MS + 2010)
    (first, opened), (second, ended) = heard
    assert (first, opened["outcome"], opened["ms"], opened["trace_id"]) == (
        "handshake",
        "ready",
        10.0,
        trace.trace_id,
    )
    assert opened["stages"]["upstream.validation"] == "proved 1.00ms"
    assert (second, ended["duration_s"], ended["client"]["bytes"]) == ("session", 2.0, 400)
