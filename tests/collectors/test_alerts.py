"""The alerts, by promtool: each fires on what it is about, after as long as it says, and not on less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.backends.launch import ROOT
from tests.collectors.prometheus import DEPLOY, promtool
from tests.collectors.test_dashboard import known, used
from tests.docs.test_docs import anchors
from tests.integration.conftest import skipping

RULES = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
NAMES = [rule["alert"] for rule in RULES]
MINUTES = 60  # how long each course is
WHO = 'job="readygate", instance="a"'
H, ON = "readygate_handshakes_total", f'{WHO}, route="*"'
DURATION, CLOSED = "readygate_handshake_duration_seconds", "readygate_sessions_closed_total"
LAG, HTTP = "readygate_event_loop_lag_seconds_bucket", "readygate_http_requests_total"
Course = dict[str, float | str]


def handshakes(**outcomes: float) -> Course:
    """Handshakes a minute by outcome."""
    return {f'{H}{{{ON}, outcome="{outcome}"}}': count for outcome, count in outcomes.items()}


def opened_in(**buckets: float) -> Course:
    """Handshakes a minute that opened within (cumulative) seconds: `_1`, `_5`, `_Inf`."""
    labels = f'{ON}, outcome="ready"'
    told: Course = {
        f'{DURATION}_bucket{{{labels}, le="{bound[1:].replace("Inf", "+Inf")}"}}': count
        for bound, count in buckets.items()
    }
    return told | {f"{DURATION}_count{{{labels}}}": buckets["_Inf"]}


def lag(within_10_ms: float) -> Course:
    """Of 60 samples a minute so many were within 10 ms, the others within a second."""
    bounds = {"0.01": within_10_ms, "1": 60.0, "+Inf": 60.0}
    return {f'{LAG}{{{WHO}, le="{bound}"}}': count for bound, count in bounds.items()}


# What is added a minute, or the samples themselves as promtool writes them. The first course of each fires,
# the second does not.
COURSES: dict[str, tuple[Course, Course]] = {
    "ReadygateDown": ({f"up{{{WHO}}}": "0x60"}, {f"up{{{WHO}}}": "1x60"}),
    "ReadygateNotReady": ({f"readygate_ready{{{WHO}}}": "0x60"}, {f"readygate_ready{{{WHO}}}": "0 0 1x58"}),
    "ReadygateSuccessRateLow": (
        handshakes(ready=80, rejected=15, timeout=0),
        handshakes(ready=80, rejected=5, abandoned=50),
    ),
    "ReadygateHandshakesTimingOut": (
        handshakes(ready=80, timeout=5, failed=5),
        handshakes(ready=80, timeout=2, failed=2, rejected=50),
    ),
    "ReadygateRedialStorm": (
        handshakes(ready=10) | {f'readygate_redials_total{{{ON}, cause="refused"}}': 30},
        handshakes(ready=10) | {f'readygate_redials_total{{{ON}, cause="refused"}}': 15},
    ),
    "ReadygateTimeToOpenHigh": (
        opened_in(_1=95, _5=100, _Inf=100),
        opened_in(_1=100, _5=100, _Inf=100),
    ),
    "ReadygateUnproven": (handshakes(ready=60, ready_unproven=40), handshakes(ready=90, ready_unproven=10)),
    "ReadygateSessionsBreak": (
        {
            f'{CLOSED}{{{ON}, side="client", code="1000"}}': 50,
            f'{CLOSED}{{{ON}, side="upstream", code="1006"}}': 10,
        },
        {
            f'{CLOSED}{{{ON}, side="client", code="1006"}}': 50,
            f'{CLOSED}{{{ON}, side="upstream", code="4401"}}': 10,
        },
    ),
    "ReadygateLimitHit": (
        {f'readygate_limits_hit_total{{{WHO}, limit="sessions"}}': 1},
        {f'readygate_limits_hit_total{{{WHO}, limit="sessions"}}': 0},
    ),
    "ReadygateEventLoopLag": (lag(50), lag(60)),
    "ReadygateSpansDropped": (
        {f"readygate_spans_dropped_total{{{WHO}}}": 100},
        {f"readygate_spans_dropped_total{{{WHO}}}": 0},
    ),
    "ReadygateKeySetFailing": (
        {f'readygate_auth_key_sets_total{{{WHO}, result="failed"}}': 1},
        {f'readygate_auth_key_sets_total{{{WHO}, result="{result}"}}': 1 for result in ("failed", "ok")},
    ),
    "ReadygateHttpErrors": (
        {f'{HTTP}{{{WHO}, status_class="2xx"}}': 50, f'{HTTP}{{{WHO}, status_class="5xx"}}': 10},
        {f'{HTTP}{{{WHO}, status_class="2xx"}}': 500, f'{HTTP}{{{WHO}, status_class="4xx"}}': 500},
    ),
    "ReadygatePolicyRefused": (
        {f'readygate_policy_reloads_total{{{WHO}, result="refused"}}': "_x49 1x10"},  # the first one ever
        {f'readygate_policy_reloads_total{{{WHO}, result="refused"}}': "1x60"},
    ),
}


def trial(name: str, course: Course, *, fires: bool) -> dict:
    """One of promtool's tests: what fires at the end of the course."""
    series = [
        {"series": labels, "values": values if isinstance(values, str) else f"0+{values}x{MINUTES}"}
        for labels, values in course.items()
    ]
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if fires else []
    asked = {"expr": f'count by (alertname) (ALERTS{{alertstate="firing", alertname="{name}"}})'}
    asked |= {"eval_time": f"{MINUTES - 1}m", "exp_samples": firing}
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [asked]}


def test_promtool_has_nothing_against_the_rules_and_the_configuration():
    with skipping():
        promtool("check", "rules", str(DEPLOY / "alerts.yaml"))
        promtool("check", "config", str(DEPLOY / "prometheus.yaml"))


def test_each_alert_fires_on_what_it_is_about_and_not_on_less(tmp_path: Path):
    assert list(COURSES) == NAMES
    trials = [
        trial(name, course, fires=fires)
        for name, courses in COURSES.items()
        for course, fires in zip(courses, (True, False), strict=True)
    ]
    file = tmp_path / "trials.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yaml")], "tests": trials}))
    with skipping():
        promtool("test", "rules", str(file))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_alert_says_how_bad_it_is_what_to_do_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert re.fullmatch(r"\d+m", rule["for"])
    told = rule["annotations"]
    assert len(told["summary"]) > 20
    assert len(told["description"]) > 80
    page, _, anchor = told["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)
    assert used(rule["expr"]) <= known()
