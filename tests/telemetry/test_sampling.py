"""Which handshakes have spans: the sampler's, and those that failed, if that is asked for."""

from __future__ import annotations

import pytest

from proxy.core.report import Outcome
from tests.telemetry.reports import START_MS, TRACE_ID, TRACEPARENT, Recorded, closed, open_session, request
from tests.telemetry.reports import report as told


@pytest.fixture
def unsampled(monkeypatch) -> Recorded:
    """Nothing is sampled, but failures are kept."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    return Recorded(keep_failures=True)


def fail(recorded: Recorded, outcome: Outcome, status: int | None, **changes: object) -> list[tuple]:
    trace = recorded.telemetry.handshake(request(), START_MS)
    trace.connect_started(1, START_MS)
    trace.connect_ended(START_MS + 1, None)
    headers = trace.upgrade_started(1, START_MS + 1)
    trace.upgrade_ended(START_MS + 2, status, None)
    trace.finish(told(outcome, status, **changes), START_MS + 9)
    return headers


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.FAILED, 503), (Outcome.TIMEOUT, 503), (Outcome.REJECTED, 500)]
)
def test_a_handshake_that_failed_has_its_spans_though_it_was_not_sampled(unsampled, outcome, status):
    fail(unsampled, outcome, status)
    spans = unsampled.spans()
    root = spans["websocket.handshake"]
    assert {"upstream.connect", "upstream.upgrade", "upstream.validation", "client.validation"} <= set(spans)
    for span in spans.values():
        assert span.context.trace_flags.sampled
        assert span.context.trace_id == root.context.trace_id
        assert span is root or span.parent.span_id == root.context.span_id
    assert (spans["upstream.upgrade"].end_time - root.start_time) == 2_000_000


def test_what_the_backend_was_told_is_the_span_that_is_exported(unsampled):
    headers = dict(fail(unsampled, Outcome.FAILED, 503))
    spans = unsampled.spans()
    upgrade = spans["upstream.upgrade"].context
    expected = f"00-{upgrade.trace_id:032x}-{upgrade.span_id:016x}-"
    assert headers[b"traceparent"].decode().startswith(expected)
    assert int(headers[b"traceparent"][-2:], 16) & 1 == 0  # its outcome was not known


@pytest.mark.parametrize(
    ("outcome", "status", "changes"),
    [
        (Outcome.READY, 101, {}),
        (Outcome.READY_UNPROVEN, 101, {}),
        (Outcome.REJECTED, 403, {}),
        (Outcome.ABANDONED, None, {}),
        (Outcome.REJECTED, 503, {"limit": "sessions"}),
        (Outcome.REJECTED, 403, {"guard": "origin"}),
        (Outcome.REJECTED, 401, {"auth": "missing"}),
        (Outcome.REJECTED, 101, {"auth": "expired", "close_code": 4401}),
    ],
)
def test_what_did_not_fail_is_left_to_the_sampler(unsampled, outcome, status, changes):
    fail(unsampled, outcome, status, **changes)
    assert unsampled.all() == []


def test_a_token_that_could_not_be_checked_is_a_failure_of_ours_with_the_span_of_the_check(unsampled):
    trace = unsampled.telemetry.handshake(request(), START_MS)
    trace.auth_ended(START_MS, START_MS + 3, "cookie", "ES256", "keys_unavailable")
    trace.finish(told(Outcome.REJECTED, 503, auth="keys_unavailable", stages=()), START_MS + 4)
    spans = unsampled.spans()
    assert set(spans) == {"websocket.handshake", "guard.auth"}
    check, root = spans["guard.auth"], spans["websocket.handshake"]
    assert check.parent.span_id == root.context.span_id
    assert (check.start_time, check.end_time) == (root.start_time, root.start_time + 3_000_000)
    assert check.attributes["readygate.auth.outcome"] == "keys_unavailable"


def test_the_session_of_a_handshake_that_was_not_sampled_has_no_span(unsampled):
    open_session(unsampled.telemetry)[1].finish(closed("upstream", 1014, None), START_MS + 20)
    assert unsampled.all() == []


def test_a_failure_in_a_trace_that_its_caller_does_not_sample_stays_in_that_trace(unsampled):
    facts = request(headers=[(b"traceparent", TRACEPARENT[:-2] + b"00")])
    trace = unsampled.telemetry.handshake(facts, START_MS)
    trace.finish(told(Outcome.TIMEOUT, 503), START_MS + 9)
    assert trace.sampled  # as the log line tells it
    assert f"{unsampled.spans()['websocket.handshake'].context.trace_id:032x}" == TRACE_ID


def test_without_the_option_a_failure_that_is_not_sampled_has_no_spans(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    recorded = Recorded()
    fail(recorded, Outcome.FAILED, 503)
    assert recorded.all() == []


def test_a_share_of_the_traces_is_kept_whole(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    recorded = Recorded()
    sampled = [open_session(recorded.telemetry)[0].sampled for _ in range(100)]
    assert 10 < sum(sampled) < 90
    assert len(recorded.all()) == 11 * sum(sampled)
