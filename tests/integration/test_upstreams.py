"""Where the backend is: behind a Unix socket, behind TLS, or nowhere."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.backends import front, launch, wire

# What was begun with a backend that never answers is left to it until the gate's grace is over.
IMPATIENT = "extends: production\nhandshake: {deadline_s: 1}\ndrain: {spread_s: 0, grace_s: 2}\n"


def test_a_backend_on_a_unix_socket_is_served(run, tmp_path: Path):
    async def main(through):
        async with await wire.opened(through, "/ws/echo", early=wire.text("early")) as client:
            assert await client.message() == b"early"
        request = b"GET /ws/health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        async with await wire.Wire.dial(through, request) as client:
            assert await client.body() == b"ok"

    with launch.uvicorn(unix=str(tmp_path / "app.sock")) as backend, front.gate(backend.url) as gate:
        run(main((gate.host, gate.port)))


def test_a_backend_behind_tls_is_served_when_the_policy_trusts_its_authority(run, certificates):
    server, authority = certificates
    policy = f"extends: production\nupstream: {{tls: {{ca_file: {authority}}}}}\n"

    async def main(through):
        async with await wire.opened(through, "/ws/echo", early=wire.text("early")) as client:
            assert await client.message() == b"early"
            client.send(wire.binary(b"x" * 300_000))
            assert await client.message() == b"x" * 300_000
            assert await client.leave() == []

    with launch.library(certificate=str(server)) as backend, front.gate(backend.url, policy) as gate:
        run(main((gate.host, gate.port)))


def test_a_backend_whose_certificate_is_not_trusted_is_never_spoken_to(run, certificates):
    async def main(through):
        async with await wire.Wire.dial(through, wire.upgrade("/ws/echo")) as client:
            head = await client.head()
            assert head.status in {502, 503}
            assert head.get("Content-Type") == "application/problem+json"

    with (
        launch.library(certificate=str(certificates[0])) as backend,
        front.gate(backend.url, IMPATIENT) as gate,
    ):
        run(main((gate.host, gate.port)))


def test_an_unreachable_backend_is_503_at_the_deadline_and_not_before(run):
    async def main(through):
        began = time.monotonic()
        async with await wire.Wire.dial(through, wire.upgrade("/ws/echo")) as client:
            head = await client.head()
            assert time.monotonic() - began >= 0.95
            assert head.status == 503
            assert head.get("Content-Type") == "application/problem+json"
            assert int(head.get("Retry-After")) >= 1
            assert json.loads(await client.body())["status"] == 503

    with front.gate(f"http://127.0.0.1:{launch.free_port()}", IMPATIENT) as gate:
        run(main((gate.host, gate.port)))


def test_a_backend_that_takes_connections_but_never_answers_is_503_at_the_deadline(run):
    async def main(through):
        began = time.monotonic()
        async with await wire.Wire.dial(through, wire.upgrade("/ws/echo")) as client:
            assert (await client.head()).status == 503
            assert time.monotonic() - began >= 0.95

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        front.gate(f"http://127.0.0.1:{silent.getsockname()[1]}", IMPATIENT) as gate,
    ):
        run(main((gate.host, gate.port)))


def test_a_backend_that_is_killed_ends_its_sessions_as_1014(run):
    async def main(through, backend):
        async with await wire.opened(through, "/ws/echo") as client:
            client.send(wire.text("hello"))
            assert await client.message() == b"hello"
            backend.process.kill()
            with pytest.raises(wire.ClosedError) as closed:
                await client.message()
            assert closed.value.code == 1014

    with launch.uvicorn() as backend, front.gate(backend.url) as gate:
        run(main((gate.host, gate.port), backend))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ordinary_http_to_an_unreachable_backend_is_a_problem_document(run, method: str):
    request = f"{method} / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    async def main(through):
        async with await wire.Wire.dial(through, request) as client:
            head = await client.head()
            assert head.status in {502, 503, 504}
            assert head.get("Content-Type") == "application/problem+json"

    with front.gate(f"http://127.0.0.1:{launch.free_port()}", IMPATIENT) as gate:
        run(main((gate.host, gate.port)))
