from __future__ import annotations

from opentelemetry.sdk.resources import Resource

from proxy.core.early import EarlyTotal
from proxy.core.report import Outcome
from proxy.telemetry import DepartureFacts, SessionReport, Traffic
from proxy.telemetry.metrics import Metrics, Tally
from tests.telemetry.reports import START_MS, closed, open_session, report, request, telemetry


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
    assert 'readygate_redials_total{cause="refused"} 2' in told
    assert 'readygate_redials_total{cause="status_503"} 1' in told


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
    said = (Traffic(3, 1, 400), Traffic(5, 0, 5000), DepartureFacts(2, 9, 1.0))
    session.finish(SessionReport("upstream", 1014, None, *said), START_MS + 99)
    told = lines(made.metrics)
    assert "readygate_sessions_active 0" in told
    assert 'readygate_sessions_closed_total{code="1006",side="upstream"} 1' in told
    assert 'readygate_messages_total{sender="client",type="binary"} 1' in told
    assert 'readygate_traffic_bytes_total{sender="upstream"} 5000' in told
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
    held = EarlyTotal()
    made.metrics.watch(lambda: held.bytes, lambda: 0)
    assert {"# TYPE readygate_early_bytes gauge", "readygate_early_bytes 0"} <= lines(made.metrics)
    held.bytes = 17
    assert "readygate_early_bytes 17" in lines(made.metrics)


def test_passed_through_requests_are_counted_by_status_class():
    made = telemetry()
    for status in (200, 204, 502, 999):
        made.metrics.http_request(status)
    told = lines(made.metrics)
    assert 'readygate_http_requests_total{status_class="2xx"} 2' in told
    assert 'readygate_http_requests_total{status_class="5xx"} 1' in told
    assert 'readygate_http_requests_total{status_class="other"} 1' in told


def test_what_peers_choose_cannot_make_endless_series():
    made = telemetry()
    for code in range(3000, 5000):
        open_session(made)[1].finish(closed("client", code), START_MS + 99)
    series = [line for line in lines(made.metrics) if line.startswith("readygate_sessions_closed_total{")]
    assert len(series) <= 1001
    assert 'readygate_sessions_closed_total{code="other",side="other"} 1000' in series


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
