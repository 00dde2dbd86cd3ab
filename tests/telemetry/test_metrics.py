from __future__ import annotations

import os
import re
import threading

import pytest
from opentelemetry.sdk.resources import Resource

from proxy.core.frames import TEXT, FrameWalker, frame
from proxy.core.plan import Role, Stage
from proxy.core.report import Outcome, StageOutcome
from proxy.telemetry import DepartureFacts, SessionReport, Traffic
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.spans import resource
from proxy.telemetry.tally import Tally
from tests.telemetry.reports import (
    START_MS,
    Held,
    closed,
    open_session,
    report,
    request,
    stage,
    telemetry,
)


def lines(metrics: Metrics) -> set[str]:
    return set(metrics.prometheus().splitlines())


def test_a_handshake_is_pending_then_counted_by_outcome_route_and_policy():
    made = telemetry()
    trace = made.handshake(request(), START_MS)
    assert "readygate_handshakes_pending 1" in lines(made.metrics)
    trace.finish(report(Outcome.FAILED, 502, redials=("refused", "status_503", "refused")), START_MS + 12)
    told = lines(made.metrics)
    assert "readygate_handshakes_pending 0" in told
    assert 'readygate_handshakes_total{outcome="failed",route="/ws/**",policy="production"} 1' in told
    assert 'readygate_redials_total{cause="refused",route="/ws/**"} 2' in told
    assert 'readygate_redials_total{cause="status_503",route="/ws/**"} 1' in told


def test_durations_fall_into_cumulative_buckets_in_seconds():
    made = telemetry()
    for ms in (0.4, 12, 12, 90_000):
        made.handshake(request(), START_MS).finish(report(), START_MS + ms)
    told = lines(made.metrics)
    labels = 'outcome="ready",route="/ws/**"'
    name = "readygate_handshake_duration_seconds"
    assert f"# TYPE {name} histogram" in told
    assert f'{name}_bucket{{{labels},le="0.0005"}} 1' in told
    assert f'{name}_bucket{{{labels},le="0.01"}} 1' in told
    assert f'{name}_bucket{{{labels},le="0.025"}} 3' in told
    assert f'{name}_bucket{{{labels},le="60"}} 3' in told
    assert f'{name}_bucket{{{labels},le="+Inf"}} 4' in told
    assert f"{name}_count{{{labels}}} 4" in told


def test_a_session_is_active_then_counted_by_code_and_side_with_its_traffic():
    made = telemetry()
    _, session, _ = open_session(made)
    assert "readygate_sessions_active 1" in lines(made.metrics)
    said = (Traffic(3, 1, 300, 100), Traffic(5, 0, 5000), DepartureFacts(2, 9, 1.0))
    session.finish(SessionReport("upstream", 1014, None, *said), START_MS + 99)
    told = lines(made.metrics)
    assert "readygate_sessions_active 0" in told
    assert 'readygate_sessions_closed_total{code="1006",side="upstream",route="/ws/**"} 1' in told
    assert 'readygate_messages_total{sender="client",type="binary"} 1' in told
    assert 'readygate_traffic_bytes_total{sender="upstream",type="text"} 5000' in told
    assert 'readygate_traffic_bytes_total{sender="client",type="binary"} 100' in told
    assert "readygate_departure_discarded_total 2" in told


def test_requests_that_a_limit_refused_are_counted_by_limit():
    made = telemetry()
    for limit in ("sessions", "header_bytes", "sessions"):
        made.metrics.limit_hit(limit)
    told = lines(made.metrics)
    assert 'readygate_limits_hit_total{limit="sessions"} 2' in told
    assert 'readygate_limits_hit_total{limit="header_bytes"} 1' in told


def test_the_early_bytes_held_are_told_as_they_are_when_somebody_asks():
    made = telemetry()
    held = Held()
    made.metrics.watch(held)
    assert {"# TYPE readygate_early_bytes gauge", "readygate_early_bytes 0"} <= lines(made.metrics)
    held.bytes = 17
    assert "readygate_early_bytes 17" in lines(made.metrics)


def test_passed_through_requests_are_counted_by_status_class():
    made = telemetry()
    for status in (200, 204, 502, 999):
        made.metrics.http_request(status, 0.003)
    told = lines(made.metrics)
    assert 'readygate_http_duration_seconds_bucket{status_class="2xx",le="0.003"} 2' in told
    assert 'readygate_http_duration_seconds_bucket{status_class="2xx",le="0.002"} 0' in told
    assert 'readygate_http_requests_total{status_class="2xx"} 2' in told
    assert 'readygate_http_requests_total{status_class="5xx"} 1' in told
    assert 'readygate_http_requests_total{status_class="other"} 1' in told


def test_what_peers_choose_cannot_make_endless_series():
    made = telemetry()
    for code in range(3000, 5000):
        open_session(made)[1].finish(closed("upstream", 1000, code), START_MS + 99)
    series = [line for line in lines(made.metrics) if line.startswith("readygate_sessions_closed_total{")]
    assert len(series) <= 1001
    assert 'readygate_sessions_closed_total{code="other",side="other",route="other"} 1000' in series


def test_of_the_close_codes_that_a_client_chose_only_the_range_is_told():
    made = telemetry()
    for by, code in (
        ("client", 1001), ("client", 3001), ("client", 4000), ("client", 4999), ("client", 2999),
        ("client", 65535), ("upstream", 4401), ("upstream", 9), ("gate", 1012),
    ):  # fmt: skip
        open_session(made)[1].finish(closed(by, code, code), START_MS + 99)
    told = {line for line in lines(made.metrics) if line.startswith("readygate_sessions_closed_total{")}
    assert told == {
        'readygate_sessions_closed_total{code="1001",side="client",route="/ws/**"} 1',
        'readygate_sessions_closed_total{code="3xxx",side="client",route="/ws/**"} 1',
        'readygate_sessions_closed_total{code="4xxx",side="client",route="/ws/**"} 2',
        'readygate_sessions_closed_total{code="other",side="client",route="/ws/**"} 2',
        'readygate_sessions_closed_total{code="4401",side="upstream",route="/ws/**"} 1',
        'readygate_sessions_closed_total{code="other",side="upstream",route="/ws/**"} 1',
        'readygate_sessions_closed_total{code="1012",side="gate",route="/ws/**"} 1',
    }


def test_stages_of_every_try_are_timed_by_leg_and_outcome_and_skipped_ones_are_not():
    made = telemetry()
    stages = (
        stage(Role.UPSTREAM, Stage.VALIDATION, 0, 75, outcome=StageOutcome.EXPIRED),
        stage(Role.UPSTREAM, Stage.VALIDATION, 80, 82, attempt=2),
        stage(Role.UPSTREAM, Stage.STABILIZATION, 82, 82, outcome=StageOutcome.SKIPPED),
    )
    made.handshake(request(), START_MS).finish(report(stages=stages), START_MS + 90)
    told = lines(made.metrics)
    name = "readygate_stage_duration_seconds"
    proved = 'leg="upstream",stage="validation",outcome="proved",route="/ws/**"'
    assert f'{name}_bucket{{{proved},le="0.001"}} 0' in told
    assert f'{name}_bucket{{{proved},le="0.002"}} 1' in told
    assert f'{name}_sum{{leg="upstream",stage="validation",outcome="expired",route="/ws/**"}} 0.075' in told
    assert not [line for line in told if "skipped" in line]


def test_what_an_open_session_says_is_counted_as_it_says_it_and_once():
    made = telemetry()
    client, upstream = FrameWalker(), FrameWalker()
    trace = made.handshake(request(), START_MS)
    session = trace.session(START_MS, client, upstream)

    def counts() -> tuple[str, ...]:
        told = made.metrics.prometheus().splitlines()
        names = ("readygate_messages_total", "readygate_traffic_bytes_total")
        return tuple(sorted(line for line in told if line.startswith(names) and not line.endswith(" 0")))

    assert counts() == ()
    client.feed(frame(TEXT, b"four", mask=b"mask"))
    assert counts() == (
        'readygate_messages_total{sender="client",type="text"} 1',
        'readygate_traffic_bytes_total{sender="client",type="text"} 4',
    )
    upstream.feed(frame(TEXT, b"five!"))
    before = counts()
    assert 'readygate_traffic_bytes_total{sender="upstream",type="text"} 5' in before
    session.finish(SessionReport("client", 1000, 1000, Traffic(1, 0, 4), Traffic(1, 0, 5)), START_MS + 9)
    assert counts() == before


def test_the_counts_of_open_sessions_never_fall_whoever_reads_them_meanwhile():
    made = telemetry()
    over, seen = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            seen.append(made.metrics._traffic_now()["client", "text"])

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        client = FrameWalker()
        session = made.handshake(request(), START_MS).session(START_MS, client)
        client.feed(frame(TEXT, b"four", mask=b"mask"))
        session.finish(SessionReport("client", 1000, 1000, Traffic(1, 0, 4)), START_MS + 9)
    over.set()
    reader.join()
    assert seen == sorted(seen)
    assert made.metrics._traffic_now()["client", "text"] == 1200


def test_what_routes_have_learned_is_told_in_seconds():
    made, held = telemetry(), Held()
    made.metrics.watch(held)
    held.windows = {("/ws/**", "upstream"): 12.5, ("/ws/**", "client"): 0.0}
    held.quiets = {"/ws/**": 150.0}
    told = lines(made.metrics)
    assert "# TYPE readygate_window_seconds gauge" in told
    assert 'readygate_window_seconds{route="/ws/**",leg="upstream"} 0.0125' in told
    assert 'readygate_window_seconds{route="/ws/**",leg="client"} 0' in told
    assert 'readygate_quiet_seconds{route="/ws/**"} 0.15' in told


def test_how_late_the_event_loop_is_is_a_histogram():
    made = telemetry()
    for late_s in (0.0002, 0.03, 20.0):
        made.metrics.lagged(late_s)
    told = lines(made.metrics)
    assert 'readygate_event_loop_lag_seconds_bucket{le="0.001"} 1' in told
    assert 'readygate_event_loop_lag_seconds_bucket{le="10"} 2' in told
    assert "readygate_event_loop_lag_seconds_count 3" in told


def test_whether_new_sessions_are_welcome_is_told():
    made = telemetry()
    held = Held()
    made.metrics.watch(held)
    assert {"# TYPE readygate_ready gauge", "readygate_ready 1"} <= lines(made.metrics)
    held.welcome = 0
    assert "readygate_ready 0" in lines(made.metrics)


@pytest.mark.parametrize(
    ("environ", "revision"),
    [
        ({"K_SERVICE": "chat", "K_REVISION": "chat-00007-abc"}, "chat-00007-abc"),
        ({"K_REVISION": "chat-00007-abc", "OTEL_RESOURCE_ATTRIBUTES": "service.version=v7"}, "v7"),
        ({"K_REVISION": "chat-00007-abc", "OTEL_RESOURCE_ATTRIBUTES": "faas.version=mine"}, "mine"),
        ({}, ""),
    ],
)
def test_the_revision_is_a_label_of_the_build(monkeypatch, environ, revision):
    for name in ("OTEL_RESOURCE_ATTRIBUTES", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    told = Metrics(resource(os.environ), "1").prometheus()
    assert re.search(rf'^readygate_build_info{{.*revision="{revision}"}} 1$', told, re.MULTILINE)


def test_a_tally_adds_up_by_key():
    tally = Tally("a", "b")
    tally.add(2, "x", "y")
    tally.add(3, "x", "y")
    assert (tally.value("x", "y"), tally.value("x", "z")) == (5, 0)


def test_every_metric_has_help_and_type_and_labels_are_escaped():
    metrics = Metrics(Resource({}), 'v"1\\\n')
    text = metrics.prometheus()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert names == [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(names) == len(set(names))
    assert all(name.startswith("readygate_") for name in names)
    assert r'readygate_build_info{version="v\"1\\\n",python="' in text
    assert text.endswith("\n")
