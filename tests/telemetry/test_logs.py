from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import re

import pytest
from aiohttp import web

from proxy.core.report import Outcome
from proxy.telemetry import logs
from tests.telemetry.conftest import read
from tests.telemetry.reports import START_MS, closed, open_session, report, request, telemetry


def test_a_session_is_one_line_at_open_and_one_at_close(pipe):
    logs.setup({"GOOGLE_CLOUD_PROJECT": "my-project"}, pipe[1])
    trace, session, _ = open_session(telemetry(), request(target="/ws/room?token=abc&x=1"))
    session.finish(closed("upstream", 1000, 1001), START_MS + 2510)
    opened, ended = read(pipe[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", opened.pop("time"))
    assert opened == {
        "severity": "INFO",
        "message": "session open",
        "logger": "readygate.session",
        "route": "/ws/**",
        "policy": "production",
        "path": "/ws/room?token=REDACTED&x=1",
        "client_address": "10.1.2.3",
        "outcome": "ready",
        "status": 101,
        "ms": 10.0,
        "redials": 0,
        "stages": {
            f"{leg}.{name}": "proved 1.00ms"
            for leg in ("upstream", "client")
            for name in ("propagation", "validation", "stabilization")
        },
        "early_client": [2, 34],
        "early_upstream": [1, 17],
        "user_agent": "tests/1",
        "trace_id": trace.trace_id,
        "span_id": trace.span_id,
        "logging.googleapis.com/trace": f"projects/my-project/traces/{trace.trace_id}",
        "logging.googleapis.com/spanId": trace.span_id,
        "logging.googleapis.com/trace_sampled": False,
        "httpRequest": {
            "requestMethod": "GET",
            "requestUrl": "http://chat.example:8443/ws/room?token=REDACTED&x=1",
            "status": 101,
            "userAgent": "tests/1",
            "remoteIp": "10.1.2.3",
            "protocol": "HTTP/1.1",
            "latency": "0.010000s",
        },
    }
    assert (ended["message"], ended["ended_by"], ended["client_code"], ended["upstream_code"]) == (
        "session closed", "upstream", 1000, 1001,
    )  # fmt: skip
    assert (ended["duration_s"], ended["client"]["messages"], ended["upstream"]["bytes"]) == (2.5, 4, 5000)
    assert ended["handshake_trace_id"] == trace.trace_id


@pytest.mark.parametrize(
    ("outcome", "status", "severity", "message"),
    [
        (Outcome.REJECTED, 403, "INFO", "handshake rejected"),
        (Outcome.ABANDONED, None, "INFO", "handshake abandoned"),
        (Outcome.TIMEOUT, 503, "WARNING", "handshake timed out"),
        (Outcome.FAILED, 502, "WARNING", "handshake failed"),
    ],
)
def test_a_handshake_that_does_not_open_is_one_line_that_says_why(pipe, outcome, status, severity, message):
    logs.setup({}, pipe[1])
    trace = telemetry().handshake(request(), START_MS)
    trace.finish(report(outcome, status, redials=("status_503",)), START_MS + 5)
    (line,) = read(pipe[0])
    assert (line["severity"], line["message"], line["status"]) == (severity, message, status)
    assert line["redial_causes"] == ["status_503"]
    assert "logging.googleapis.com/trace" not in line


def test_the_level_is_a_setting_and_a_wrong_one_is_named(pipe):
    logs.setup({"READYGATE_LOG_LEVEL": "loud"}, pipe[1])
    logs.setup({"READYGATE_LOG_LEVEL": "error"}, pipe[1])  # a second setup changes nothing
    logging.getLogger("readygate").info("hello %s", "world")
    wrong, hello = read(pipe[0])
    assert wrong["message"].startswith("READYGATE_LOG_LEVEL: found 'LOUD', expected DEBUG, INFO")
    assert hello["message"] == "hello world"


def test_a_quiet_level_drops_the_session_lines(pipe):
    logs.setup({"READYGATE_LOG_LEVEL": "warning"}, pipe[1])
    open_session(telemetry())[1].finish(closed(), START_MS + 20)
    assert read(pipe[0]) == []


def test_an_exception_is_one_line_with_its_traceback_and_no_secret(pipe):
    logs.setup({}, pipe[1])
    try:
        raise ValueError("bad header Authorization: Bearer abc")
    except ValueError:
        logging.getLogger("readygate").exception("it broke: %s", "token in ?token=abc")
    (line,) = read(pipe[0])
    assert line["severity"] == "ERROR"
    assert "ValueError" in line["exception"]
    assert "abc" not in json.dumps(line)


def test_a_reader_that_stops_neither_blocks_nor_crashes_and_learns_what_it_missed(pipe):
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    logs.setup({}, writer)
    log = logging.getLogger("readygate")
    for number in range(3000):
        log.info("line %d %s", number, "x" * 100)
    told = read(reader)
    while told[-1]["message"] != "at last":
        log.info("at last")
        told += read(reader)
    messages = [line["message"].split(" x")[0] for line in told]
    lost = next(index for index, text in enumerate(messages) if "lost" in text)
    assert messages[:lost] == [f"line {number}" for number in range(lost)]
    assert messages[lost] == f"{3000 - lost} log lines lost: stdout is not being read"


def test_a_reader_that_has_gone_does_not_crash():
    reader, writer = os.pipe()
    logs.setup({}, writer)
    os.close(reader)
    logging.getLogger("readygate").info("anybody there?")
    os.close(writer)


def test_exporters_complain_once_a_minute(pipe, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    logs.setup({}, pipe[1])
    noisy = logging.getLogger("opentelemetry.exporter.otlp")
    for _ in range(5):
        noisy.error("Failed to export: %s", "refused")
    clock[0] += 61
    noisy.error("Failed to export: %s", "still refused")
    first, second = read(pipe[0])
    assert first["message"] == "opentelemetry.exporter.otlp: Failed to export: refused"
    assert (second["severity"], second["held_back"]) == ("WARNING", 4)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cr3t\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: s3cr3t" + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /?token=s3cr3t" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_bad_request_is_one_warning_with_the_peers_address(run, pipe, sent):
    logs.setup({}, pipe[1])

    async def main() -> bytes:
        async def never(request: web.BaseRequest) -> web.Response:
            raise AssertionError

        runner = web.ServerRunner(web.Server(never, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await runner.cleanup()
        return answer

    assert b" 400 " in run(main()).splitlines()[0]
    (line,) = read(pipe[0])
    assert (line["severity"], line["client_address"], line["status"]) == ("WARNING", "127.0.0.1", 400)
    assert "exception" not in line
    assert "s3cr3t" not in json.dumps(line)


def test_an_error_of_ours_keeps_its_traceback(run, pipe):
    logs.setup({}, pipe[1])

    async def main() -> None:
        async def broken(request: web.BaseRequest) -> web.Response:
            raise RuntimeError("broken")

        runner = web.ServerRunner(web.Server(broken, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readline()
        writer.close()
        await runner.cleanup()

    run(main())
    (line,) = read(pipe[0])
    assert line["severity"] == "ERROR"
    assert "RuntimeError: broken" in line["exception"]
