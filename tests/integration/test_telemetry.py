"""Telemetry as an operator meets it: a real gate, collectors that are in trouble, and what the lines say."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from contextlib import AsyncExitStack

import pytest

from tests.backends import front, launch, wire
from tests.backends.launch import Server

POLICY = "extends: production\ndrain: {grace_s: 4, spread_s: 0}\n"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and never answer."""
    while await reader.read(1 << 16):
        pass
    writer.close()


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer at once what no client tries again."""
    await reader.read(1 << 16)
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


def metrics(gate: Server) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{gate.admin_port}/metrics", timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("collector", ["down", "silent", "refusing"])
def test_a_collector_in_trouble_holds_up_neither_handshakes_nor_the_stop_and_is_told_of_once(run, collector):
    async def main() -> tuple[int, list[str]]:
        async with AsyncExitStack() as stack:
            port = launch.free_port()
            if collector != "down":
                answer = silent if collector == "silent" else refusing
                await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", port))
            env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
            backend = stack.enter_context(await asyncio.to_thread(launch.library))
            gate = stack.enter_context(await asyncio.to_thread(front.gate, backend.url, POLICY, env=env))
            for _ in range(5):
                clients = [await wire.opened((gate.host, gate.port), "/ws/echo") for _ in range(10)]
                for client in clients:
                    client.send(wire.text("hello"))
                    assert await client.message() == b"hello"
                    await client.leave()
            code = await asyncio.to_thread(gate.process.send_signal, 15) or await asyncio.to_thread(
                gate.process.wait, launch.STOP_S
            )
            lines = gate.log().splitlines()
            return code, lines

    code, lines = run(main())
    assert code == 0
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(told) == len(lines), "something that is no log line"
    assert sum(line["message"] == "session open" for line in told) == 50
    assert sum(line["logger"] == "readygate.telemetry" for line in told) <= 1


def test_what_an_open_session_says_and_its_stages_are_in_the_metrics(run):
    async def main() -> str:
        with launch.library() as backend, front.gate(backend.url) as gate:
            async with await wire.opened((gate.host, gate.port), "/ws/echo") as client:
                client.send(wire.text("hello"))
                assert await client.message() == b"hello"
                return await asyncio.to_thread(metrics, gate)

    told = set(run(main()).splitlines())
    assert 'readygate_messages_total{sender="client",type="text"} 1' in told
    assert 'readygate_traffic_bytes_total{sender="upstream",type="text"} 5' in told
    stage = 'leg="upstream",stage="validation",outcome="proved",route="*"'
    assert f"readygate_stage_duration_seconds_count{{{stage}}} 1" in told
    assert 'readygate_window_seconds{route="*",leg="upstream"} 0.025' in told
    assert any(line.startswith('readygate_quiet_seconds{route="*"}') for line in told)


def test_a_failed_handshake_is_exported_though_nothing_is_sampled(run):
    env = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_off"}
    env |= {"OTEL_BSP_SCHEDULE_DELAY": "50", "READYGATE_TRACE_FAILURES": "on"}
    policy = "extends: production\nhandshake: {deadline_s: 0.3}\n"

    async def main() -> str:
        with front.gate(f"http://127.0.0.1:{launch.free_port()}", policy, env=env) as gate:
            async with await wire.Wire.dial((gate.host, gate.port), wire.upgrade("/ws/echo")) as client:
                assert (await client.head()).status == 503
            return await asyncio.to_thread(
                gate.wait_for_log, lambda text: '"websocket.handshake"' in text and "handshake timed" in text
            )

    told = run(main())
    root = next(json.loads(line) for line in told.splitlines() if '"websocket.handshake"' in line)
    assert root["attributes"]["readygate.outcome"] in {"timeout", "failed"}
    assert root["status"]["status_code"] == "ERROR"
    assert '"upstream.connect"' in told


def test_eager_the_clients_stages_lie_beside_the_upstreams_tries_as_they_did(run):
    env = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    policy = "extends: production\nhandshake: {accept: eager, redial: {base_ms: 400}}\n"

    async def main() -> str:
        with launch.flaky() as backend, front.gate(backend.url, policy, env=env) as gate:
            client = await wire.opened((gate.host, gate.port), "/cold?id=eager&refuse=1&status=503")
            client.send(wire.text("hello"))
            assert await client.message() == b"hello"
            await client.leave()
            return await asyncio.to_thread(gate.wait_for_log, lambda text: '"websocket.session"' in text)

    spans = [json.loads(line) for line in run(main()).splitlines() if '"trace_state"' in line]
    root = next(span for span in spans if span["name"] == "websocket.handshake")
    children = [span for span in spans if span["parent_id"] == root["context"]["span_id"]]
    began = {(span["name"], span["attributes"].get("readygate.attempt")): span for span in children}
    first, second = (began["upstream.upgrade", attempt] for attempt in (1, 2))
    assert (first["status"]["status_code"], second["status"]["status_code"]) == ("ERROR", "UNSET")
    assert second["attributes"]["http.request.resend_count"] == 1
    proof = next(span for span in children if span["name"] == "client.validation")
    # the client proves itself while the upstream is away, and is there when its second try begins
    assert root["start_time"] <= proof["start_time"] <= proof["end_time"] < second["start_time"]
    assert second["end_time"] <= root["end_time"]


def test_what_goes_wrong_in_plain_http_names_the_request_without_its_secrets(run):
    async def main() -> str:
        env = {"GOOGLE_CLOUD_PROJECT": "p"}
        with front.gate(f"http://127.0.0.1:{launch.free_port()}", env=env) as gate:
            request = b"GET /api?token=abc HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n"
            async with await wire.Wire.dial((gate.host, gate.port), request) as client:
                assert (await client.head()).status == 502
            return await asyncio.to_thread(gate.wait_for_log, lambda text: "no answer from" in text)

    (line,) = (json.loads(line) for line in run(main()).splitlines() if "no answer from" in line)
    assert (line["route"], line["path"], line["status"]) == ("*", "/api?token=REDACTED", 502)
    assert line["httpRequest"]["requestUrl"] == "http://example.test/api?token=REDACTED"
    assert re.fullmatch(r"127\.0\.0\.1", line["client_address"])
