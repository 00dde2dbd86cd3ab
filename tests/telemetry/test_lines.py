"""Lines for people, and the fields that Google Cloud knows."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import tty

import pytest

from proxy.core.report import Outcome, StageOutcome
from proxy.telemetry import logs
from tests.telemetry.conftest import read
from tests.telemetry.reports import (
    START_MS,
    TRACE_ID,
    TRACEPARENT,
    closed,
    open_session,
    report,
    request,
    six_stages,
    telemetry,
)

AT = r"\d\d:\d\d:\d\d\.\d{3} "


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def told(reader: int) -> list[str]:
    return os.read(reader, 1 << 20).decode().splitlines()


def test_a_session_reads_as_two_short_lines(pipe):
    logs.setup({"READYGATE_LOG_FORMAT": "text"}, pipe[1])
    _, session, _ = open_session(telemetry(), request(target="/ws/room?token=abc&x=1"))
    session.finish(closed("upstream", 1000, 1001), START_MS + 2510)
    opened, ended = told(pipe[0])
    assert re.fullmatch(
        AT + r"INFO  session open /ws/room\?token=REDACTED&x=1 101 10\.0 ms route=/ws/\*\*"
        r" client_address=10\.1\.2\.3 early_client=2/34B early_upstream=1/17B",
        opened,
    )
    assert re.fullmatch(
        AT + r"INFO  session closed /ws/room\S+ 2\.5 s route=\S+ client_address=10\.1\.2\.3 ended_by=upstream"
        r" client_code=1000 upstream_code=1001 client=4/400B upstream=5/5000B",
        ended,
    )


def test_a_stage_that_was_not_proved_is_named(pipe):
    logs.setup({"READYGATE_LOG_FORMAT": "text"}, pipe[1])
    first, *others = six_stages()
    late = type(first)(
        first.role, first.stage, 1, StageOutcome.EXPIRED, first.evidence, 50.0, START_MS, START_MS + 50
    )
    trace = telemetry().handshake(request(), START_MS)
    trace.finish(report(Outcome.READY_UNPROVEN, stages=(late, *others)), START_MS + 60)
    (line,) = told(pipe[0])
    assert line.endswith('upstream.propagation="expired 50.00ms"')
    assert "outcome=ready_unproven" in line


def test_a_terminal_has_text_in_colours(terminal):
    logs.setup({}, terminal[1])
    logging.getLogger("readygate").warning("hello")
    (line,) = told(terminal[0])
    assert re.fullmatch(AT + r"\x1b\[33mWARN \x1b\[0m hello", line)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(terminal, environ):
    logs.setup(environ, terminal[1])
    logging.getLogger("readygate").error("hello")
    assert re.fullmatch(AT + "ERROR hello", told(terminal[0])[0])


def test_json_can_be_had_on_a_terminal(terminal):
    logs.setup({"READYGATE_LOG_FORMAT": "JSON"}, terminal[1])
    logging.getLogger("readygate").info("hello")
    assert json.loads(told(terminal[0])[0])["message"] == "hello"


def test_a_format_that_does_not_exist_is_named(pipe):
    logs.setup({"READYGATE_LOG_FORMAT": "xml"}, pipe[1])
    (line,) = read(pipe[0])
    assert line["message"] == "READYGATE_LOG_FORMAT: found 'xml', expected auto, json, text"


def test_what_a_peer_chose_can_neither_move_the_cursor_nor_start_a_line(pipe):
    logs.setup({"READYGATE_LOG_FORMAT": "text"}, pipe[1])
    evil = "/\x1b[2Jx\r\n00:00:00.000 INFO  forged\x9b\u202e"
    facts = request(target=evil, headers=[(b"Sec-WebSocket-Protocol", b"a\x1b[0m")])
    telemetry().handshake(facts, START_MS).finish(report(Outcome.REJECTED, 403), START_MS + 5)
    (line,) = told(pipe[0])
    assert line.isprintable()
    assert "\\x1b[2J" in line


def test_a_traceback_is_on_lines_of_its_own(pipe):
    logs.setup({"READYGATE_LOG_FORMAT": "text"}, pipe[1])
    try:
        raise ValueError("bad \x1b[2J")
    except ValueError:
        logging.getLogger("readygate").exception("it broke")
    lines = told(pipe[0])
    assert re.fullmatch(AT + "ERROR it broke ", lines[0])
    assert lines[-1] == "ValueError: bad \\x1b[2J"


@pytest.mark.parametrize("environ", [{"GOOGLE_CLOUD_PROJECT": "p"}, {"K_SERVICE": "gate"}])
def test_on_google_cloud_a_handshakes_line_has_the_request(pipe, environ):
    logs.setup(environ, pipe[1])
    trace = telemetry().handshake(request(target="/ws?token=abc", client="203.0.113.9"), START_MS)
    trace.finish(report(Outcome.REJECTED, 403), START_MS + 5)
    (line,) = read(pipe[0])
    assert line["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "http://chat.example:8443/ws?token=REDACTED",
        "status": 403,
        "userAgent": "tests/1",
        "remoteIp": "203.0.113.9",
        "protocol": "HTTP/1.1",
        "latency": "0.005000s",
    }
    assert ("logging.googleapis.com/trace" in line) == ("GOOGLE_CLOUD_PROJECT" in environ)


def test_a_request_that_went_wrong_tells_who_asked_for_what_in_the_callers_trace(pipe):
    logs.setup({"GOOGLE_CLOUD_PROJECT": "p"}, pipe[1])
    facts = request(target="/api?token=abc", headers=[(b"traceparent", TRACEPARENT)])
    fields = {"status": 502, "error": "ClientConnectorError"}
    telemetry().complain(logging.getLogger("readygate.http"), "no answer from the upstream", facts, fields)
    (line,) = read(pipe[0])
    assert (line["path"], line["status"], line["httpRequest"]["status"]) == ("/api?token=REDACTED", 502, 502)
    assert line["logging.googleapis.com/trace"] == f"projects/p/traces/{TRACE_ID}"
    assert "latency" not in line["httpRequest"]


def test_a_warning_that_repeats_is_told_now_and_then_with_how_many_there_were(pipe, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    logs.setup({}, pipe[1])
    log = logging.getLogger("readygate.http")
    for number in range(50):
        log.warning("no answer: %d", number)
    logging.getLogger("readygate.accept").warning("something else")
    clock[0] += 10
    log.warning("no answer: %d", 50)
    lines = read(pipe[0])
    assert [line["message"] for line in lines] == [
        *(f"no answer: {number}" for number in range(20)),
        "something else",
        "no answer: 50",
    ]
    assert [line.get("held_back") for line in lines] == [None] * 21 + [30]


def test_a_line_that_counts_refusals_itself_is_never_held_back(pipe):
    logs.setup({}, pipe[1])
    for _ in range(30):
        logging.getLogger("readygate.accept").warning("limit reached", extra={"fields": {"refused": 7}})
    assert [line["refused"] for line in read(pipe[0])] == [7] * 30


def test_sessions_are_no_repeats(pipe):
    logs.setup({}, pipe[1])
    made = telemetry()
    for _ in range(30):
        made.handshake(request(), START_MS).finish(report(Outcome.FAILED, 503), START_MS + 5)
    assert len(read(pipe[0])) == 30
