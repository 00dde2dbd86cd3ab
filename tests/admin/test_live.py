"""What the live page is told: files, handshakes, and a stream that costs nothing when nobody reads it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from proxy.admin.files import CONTENT_POLICY, page_file
from proxy.admin.handshakes import handshake
from proxy.admin.live import Live
from proxy.core.plan import Evidence, Role, Stage
from proxy.core.report import EarlyCount, Outcome, StageOutcome
from proxy.telemetry.recent import MOST, MOST_STEPS, Finished
from tests.admin.serving import State, events, served
from tests.telemetry.reports import START_MS, open_session, report, request, stage, telemetry

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def fetch(run, path: str, state: State | None = None, **options):
    async def main():
        async with served(state or State()) as client, client.request("GET", path, **options) as answer:
            return answer.status, answer.headers, await answer.text()

    return run(main())


def finished(**changes: object) -> Finished:
    recorded = telemetry()
    trace, _, _ = open_session(recorded)
    trace.replied_ms = START_MS + 12.25
    one = recorded.recent[-1]
    return one._replace(report=report(early_upstream=EarlyCount(), **changes))


# -- files --------------------------------------------------------------------------------------------------


def test_a_browser_gets_the_page_and_others_the_list(run):
    status, headers, body = fetch(run, "/", headers=BROWSER)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"] == CONTENT_POLICY
    assert body.startswith("<!doctype html>")
    _, headers, body = fetch(run, "/", headers={"Accept": "*/*"})
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "/handshakes" in body


def test_all_that_the_page_wants_is_in_the_package(run):
    index = page_file("index.html")[0].decode()
    wanted = set(re.findall(r'(?:src|href)="page/([^"]+)"', index))
    seen = set()
    while wanted - seen:
        name = (wanted - seen).pop()
        seen.add(name)
        found = page_file(name)
        assert found, name
        if name.endswith(".js"):
            wanted |= set(re.findall(r'from "\./([^"]+)"', found[0].decode()))
    assert len(seen) > 5
    status, headers, _ = fetch(run, "/page/main.js")
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")


def test_the_page_has_nothing_that_its_content_policy_forbids():
    index = page_file("index.html")[0].decode()
    assert not re.search(r"<style|<script(?![^>]* src=)| style=| on[a-z]+=|https?://", index)


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/..%2fapp.py", "/page/__init__.py"])
def test_what_is_no_file_of_the_page_is_not_found(run, path):
    assert fetch(run, path)[0] == 404


# -- handshakes ---------------------------------------------------------------------------------------------


def test_a_handshake_has_its_steps_and_stages_in_order_in_ms_after_the_request(run):
    state = State()
    state.recent = [finished()]
    status, _, body = fetch(run, "/handshakes", state)
    (one,) = json.loads(body)["handshakes"]
    assert status == 200
    assert [f"{step['leg']}.{step['name']}" for step in one["steps"]] == [
        "upstream.connect", "upstream.upgrade", "upstream.propagation", "upstream.validation",
        "upstream.stabilization", "client.accept", "client.propagation", "client.validation",
        "client.stabilization", "gate.flush",
    ]  # fmt: skip
    assert one["steps"][3] == {
        "leg": "upstream",
        "name": "validation",
        "attempt": 1,
        "start_ms": 3.0,
        "end_ms": 4.0,
        "outcome": "proved",
        "evidence": "pong",
        "budget_ms": 75.0,
        "marks": [["ping", 3.0], ["pong", 4.0]],
    }
    assert (one["ms"], one["open_ms"], one["first_reply_ms"]) == (10.0, 9.5, 2.75)
    assert one["began"] == "1970-01-01T00:16:40.000+00:00"
    assert (one["route"], one["path"], one["outcome"]) == ("/ws/**", "/ws/room?x=1", "ready")


def test_what_the_upstream_said_before_is_its_first_reply_as_the_gate_opens():
    one = finished()._replace(report=report(early_upstream=EarlyCount(1, 17)))
    assert handshake(one, 0.0)["first_reply_ms"] == 0.0


def test_a_try_that_failed_says_why_and_one_cut_short_says_so_too():
    recorded = telemetry()
    trace = recorded.handshake(request("/ws?token=s3cr3t"), START_MS)
    trace.connect_started(1, START_MS)
    trace.connect_ended(START_MS + 1, "refused")
    trace.connect_started(2, START_MS + 5)
    trace.connect_ended(START_MS + 6, None)
    trace.upgrade_started(2, START_MS + 6)
    trace.upgrade_ended(START_MS + 7, 503, None)
    trace.connect_started(3, START_MS + 9)
    trace.finish(report(Outcome.TIMEOUT, 503, redials=("refused", "status_503"), stages=()), START_MS + 10)
    told = handshake(recorded.recent[-1], 0.0)
    steps = [(step["name"], step["attempt"], step["end_ms"], step["error"]) for step in told["steps"]]
    assert steps == [
        ("connect", 1, 1.0, "refused"),
        ("connect", 2, 6.0, None),
        ("upgrade", 2, 7.0, "status_503"),
        ("connect", 3, 10.0, "timeout"),
    ]
    assert (told["redials"], told["redial_causes"]) == (2, ["refused", "status_503"])
    assert (told["open_ms"], told["first_reply_ms"]) == (None, None)
    assert "s3cr3t" not in json.dumps(told)


def test_the_check_of_a_token_is_a_step_and_says_what_was_wrong_with_it():
    recorded = telemetry()
    for outcome in ("accepted", "signature"):
        trace = recorded.handshake(request(), START_MS)
        trace.auth_ended(START_MS, START_MS + 0.5, "cookie", "ES256", outcome)
        trace.finish(report(Outcome.REJECTED, 401, auth="signature", stages=()), START_MS + 1)
    good, bad = (handshake(one, 0.0) for one in recorded.recent)
    assert [(step["leg"], step["name"], step["outcome"], step["error"]) for step in good["steps"]] == [
        ("guard", "auth", "done", None)
    ]
    assert [(step["end_ms"], step["outcome"], step["error"]) for step in bad["steps"]] == [
        (0.5, "failed", "signature")
    ]
    assert bad["auth"] == "signature"


def test_of_very_many_tries_the_first_and_the_last_are_kept():
    recorded = telemetry()
    trace = recorded.handshake(request(), START_MS)
    for attempt in range(1, 1001):
        trace.connect_started(attempt, START_MS + attempt)
        trace.connect_ended(START_MS + attempt + 0.5, "refused")
    lost = {"outcome": StageOutcome.FAILED, "evidence": Evidence.QUIET}
    stages = tuple(
        stage(Role.UPSTREAM, Stage.STABILIZATION, START_MS + n, START_MS + n, attempt=n, **lost)
        for n in range(1, 1001)
    )
    trace.finish(report(Outcome.TIMEOUT, 503, redials=("refused",) * 999, stages=stages), START_MS + 2000)
    told = handshake(recorded.recent[-1], 0.0)
    attempts = [step["attempt"] for step in told["steps"]]
    assert len(attempts) == 2 * MOST_STEPS
    assert (min(attempts), max(attempts), told["redials"]) == (1, 1000, 999)


def test_no_more_than_the_last_200_are_kept():
    recorded = telemetry()
    for _ in range(MOST + 5):
        open_session(recorded)
    assert len(recorded.recent) == MOST == 200


# -- the stream ---------------------------------------------------------------------------------------------


async def told(stream, kind: str):
    while (event := await anext(stream))[0] != kind:
        pass
    return event[1]


def test_a_page_is_told_all_there_is_and_then_what_is_new(run):
    async def main():
        state = State()
        state.recent = [finished()]
        async with served(state) as client, client.get("/page/events") as answer:
            stream = events(answer)
            first = [await anext(stream) for _ in range(5)]
            state.recent.append(finished(redials=("lost",)))
            news = await told(stream, "handshakes")
            return first, news

    first, news = run(main())
    assert [kind for kind, _ in first] == ["comment", "hello", "handshakes", "now", "sessions"]
    assert first[1][1] == {"version": "1.0", "upstream": "http://127.0.0.1:8000", "trace_url": ""}
    assert len(first[2][1]["handshakes"]) == 1
    assert first[3][1]["outcomes"] == {"ready": 3}
    assert first[4][1]["sessions"][0]["id"] == "s1"
    assert [one["redials"] for one in news["handshakes"]] == [1]


def test_a_first_reply_that_comes_later_is_told(run):
    async def main():
        state = State()
        state.recent = [finished()]
        state.recent[0].trace.replied_ms = None
        async with served(state) as client, client.get("/page/events") as answer:
            stream = events(answer)
            before = await told(stream, "handshakes")
            state.recent[0].trace.replied_ms = START_MS + 20
            after = await told(stream, "handshakes")
            return [each["handshakes"][0]["first_reply_ms"] for each in (before, after)]

    assert run(main()) == [None, 10.5]


def test_nothing_is_worked_out_and_no_timer_runs_when_nobody_looks(run):
    async def main():
        state = State()
        live = Live(state, tick_s=0.0)
        idle = state.asked
        with live.watch() as first:
            with live.watch() as second:
                await first.take(1.0)
                await second.take(1.0)
            while state.asked < 10:  # it ticks for the one that is left
                await asyncio.sleep(0)
        assert live._timer is None
        after = state.asked
        for _ in range(100):
            await asyncio.sleep(0)
        return idle, after, state.asked

    idle, after, later = run(main())
    assert idle == 0
    assert later == after


def test_a_page_that_is_too_slow_is_told_that_it_has_lost_something(run):
    async def main():
        state = State()
        with Live(state, tick_s=0.0).watch() as listener:
            while state.asked < 100:
                await asyncio.sleep(0)
            return await listener.take(1.0)

    assert run(main()).startswith(b"event: lost\n")
