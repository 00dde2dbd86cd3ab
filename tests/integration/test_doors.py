"""Who gets in at a real gate: pages, hosts, and at its admin port names and the token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import InvalidStatus

from tests.backends import front, launch, wire
from tests.backends.launch import Server
from tests.integration.test_command_line import UPSTREAM, assert_one_line, run_gate

TOKEN = "correct-horse-battery-staple"
GUARDED = """
extends: production
guard:
  origins: [same, "https://*.app.example"]
  hosts: [gate.example, 127.0.0.1]
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    launch.may_open()
    with launch.uvicorn() as server:
        yield server


@pytest.fixture
def gate(backend: Server) -> Iterator[Callable[..., Server]]:
    """A gate of the test's own before the backend."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(front.gate(backend.url, *args, **options))


@pytest.fixture(params=["1", "2"], ids=["alone", "workers"])
def guarded_admin(request, gate) -> Server:
    """A gate that others than this machine may ask for what it does, if they have the token."""
    port = launch.free_port()
    env = {"READYGATE_ADMIN_TOKEN": TOKEN, "READYGATE_ADMIN_HOSTS": "gate.internal"}
    server = gate(workers=request.param, admin=f"0.0.0.0:{port}", env=env)
    server.admin_port = port
    return server


def asked(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of what the admin port answers."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=told)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


# -- pages and hosts --------------------------------------------------------------------------------------


def test_a_page_of_another_site_is_refused_and_those_of_the_list_and_programs_are_served(run, gate):
    server = gate(GUARDED)
    url = f"ws://127.0.0.1:{server.port}/ws/echo"

    async def echoes(**options: object) -> None:
        async with websockets.connect(url, **options) as client:
            await client.send("hello")
            assert await client.recv() == "hello"

    async def main():
        await echoes()
        await echoes(origin=f"http://127.0.0.1:{server.port}")
        await echoes(origin="https://a.app.example")
        for origin in ("https://evil.example", "null", "https://app.example"):
            with pytest.raises(InvalidStatus) as caught:
                await websockets.connect(url, origin=origin)
            response = caught.value.response
            assert response.status_code == 403
            assert json.loads(response.body)["detail"] == "this origin may not open a WebSocket here"

    run(main())
    _, _, metrics = asked(server.admin_port, "/metrics")
    assert 'readygate_guard_refused_total{reason="origin"} 3' in metrics
    log = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    (line,) = [each for each in log if each["message"] == "not let in"]
    assert (line["severity"], line["reason"], line["found"]) == ("WARNING", "origin", "https://evil.example")
    assert {each.get("guard") for each in log if each["message"] == "handshake rejected"} == {"origin"}


def test_a_rebound_name_reaches_neither_the_backend_nor_anything_but_health(run, gate):
    server = gate(GUARDED)

    async def status(first: bytes) -> int:
        async with await wire.Wire.dial((server.host, server.port), first) as client:
            return (await client.head()).status

    def plain(host: str, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    async def main():
        assert await status(plain("gate.example:8080", "/whoami")) == 200
        assert await status(plain("rebound.example", "/whoami")) == 421
        assert await status(wire.upgrade("/ws/echo", host="gate.example")) == 101
        # the page's origin is that of its own name: `same` alone would let it in
        rebound = wire.upgrade("/ws/echo", "Origin: http://rebound.example", host="rebound.example")
        assert await status(rebound) == 421
        assert await status(plain("rebound.example", "/_readygate/livez")) == 200
        assert await status(b"GET /whoami HTTP/1.1\r\n\r\n") == 400

    run(main())


# -- the admin port ---------------------------------------------------------------------------------------


def test_the_admin_port_tells_its_own_machine_and_no_name_that_was_made_to_lead_there(gate):
    server = gate()
    for host in (f"127.0.0.1:{server.admin_port}", "localhost", "[::1]:9901"):
        assert asked(server.admin_port, "/sessions", Host=host)[0] == 200
    status, _, body = asked(server.admin_port, "/sessions", Host="rebound.example")
    assert (status, json.loads(body)["title"]) == (421, "Misdirected Request")
    assert asked(server.admin_port, "/livez", Host="rebound.example")[0] == 200


def test_with_a_token_only_health_is_told_without_it(guarded_admin):
    port = guarded_admin.admin_port
    for path in ("/livez", "/readyz", "/startupz"):
        assert asked(port, path)[0] == 200
    for path in ("/", "/metrics", "/sessions", "/policy", "/events"):
        status, headers, _ = asked(port, path)
        assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Bearer")
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] == "readygate"
    for path in ("/", "/metrics", "/sessions", "/policy"):
        status, headers, body = asked(port, path, Authorization=f"Bearer {TOKEN}")
        assert (status, headers["X-Frame-Options"]) == (200, "DENY")
        assert TOKEN not in body
    show = {"Authorization": f"Bearer {TOKEN}"}
    assert asked(port, "/sessions", Host="gate.internal", **show)[0] == 200
    assert asked(port, "/sessions", Host="10.1.2.3", **show)[0] == 200
    assert asked(port, "/sessions", Host="rebound.example", **show)[0] == 421
    assert asked(port, "/sessions", Origin="https://evil.example", **show)[0] == 403
    assert asked(port, "/sessions", Sec_Fetch_Site="cross-site", **show)[0] == 403
    assert TOKEN not in guarded_admin.stdout.read_text() + guarded_admin.stderr.read_text()
    for process in [guarded_admin.pid, *children(guarded_admin.pid)]:
        assert TOKEN.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_events_are_streamed_to_who_has_the_token(run, guarded_admin):
    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", guarded_admin.admin_port)
        fields = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(f"GET /events HTTP/1.1\r\n{fields}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nCross-Origin-Resource-Policy: same-origin\r\n" in head
        await reader.readuntil(b": readygate events\n\n")
        writer.close()

    run(main())


@pytest.mark.parametrize(("admin", "workers"), [(":9901", "1"), ("gate.internal:9901", "2")])
def test_an_admin_port_for_other_machines_without_a_token_is_bad_usage(admin, workers):
    done = run_gate("run", *UPSTREAM, "--listen", "127.0.0.1:0", "--admin", admin, "--workers", workers)
    assert_one_line(done, 2, "--admin", "READYGATE_ADMIN_TOKEN")


def test_a_short_token_is_bad_usage_and_not_shown():
    done = run_gate("run", *UPSTREAM, env={"READYGATE_ADMIN_TOKEN": "hunter2"})
    assert_one_line(done, 2, "READYGATE_ADMIN_TOKEN", "16")
    assert "hunter2" not in done.stderr
