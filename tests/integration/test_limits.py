"""Limits as users meet them: a real gate before real backends, raw clients and a library's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.backends import front, launch, wire
from tests.backends.launch import Server
from tests.integration.conftest import Address, Pair

MESSAGE = 4096


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    launch.may_open()
    with launch.uvicorn() as server:
        yield server


@pytest.fixture
def behind(backend: Server) -> Iterator[Callable[..., Pair]]:
    """A gate with these lines of policy, of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(*lines: str, **flags: str) -> Pair:
            policy = "\n".join(["extends: production", *lines, ""])
            gate = stack.enter_context(front.gate(backend.url, policy, **flags))
            return Pair(backend, gate)

        yield start


async def refused(address: Address, *fields: str) -> tuple[wire.Head, dict[str, object]]:
    """The answer to one more upgrade, and its problem document; the gate closes behind it."""
    async with await wire.Wire.dial(address, wire.upgrade("/ws/echo", *fields)) as client:
        head, body = await client.head(), await client.body()
        await client.gone.wait()
        assert head.get("Content-Type") == "application/problem+json"
        return head, json.loads(body)


async def echoes(client: wire.Wire, text: str = "still here") -> None:
    client.send(wire.text(text))
    assert await client.message() == text.encode()


async def admitted(address: Address, *fields: str) -> wire.Wire:
    """Come again until there is room: a place is free when the upstream, too, is gone."""
    while True:
        client = await wire.Wire.dial(address, wire.upgrade("/ws/echo", *fields))
        if (await client.head()).status == 101:
            return client
        await client.gone.wait()


def lines(gate: Server, message: str) -> list[dict[str, object]]:
    """The log lines with this message, once there is one."""

    def found(text: str) -> list[dict[str, object]]:
        told = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in told if line["message"] == message]

    return found(gate.wait_for_log(found, within_s=10))


def metrics(gate: Server) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{gate.admin_port}/metrics", timeout=10) as answer:
        return answer.read().decode()


# -- the process ------------------------------------------------------------------------------------------


def test_beyond_its_sessions_a_gate_says_when_to_come_back_and_means_it(run, behind):
    pair = behind("limits: {sessions: 3}", "handshake: {retry_after_s: 7}")

    async def main():
        clients = [await wire.opened(pair.through, "/ws/echo") for _ in range(3)]
        for _ in range(5):
            head, told = await refused(pair.through)
            assert (head.status, head.get("Retry-After")) == (503, "7")
            assert told == {"title": "Service unavailable", "status": 503, "detail": "too many sessions"}
        for client in clients:
            await echoes(client)
        assert await clients.pop().leave() == []
        clients.append(await admitted(pair.through))
        for client in clients:
            await echoes(client)
            assert await client.leave() == []

    run(main())
    first = lines(pair.gate, "limit reached")[0]
    assert (first["severity"], first["limit"], first["status"], first["refused"]) == (
        "WARNING",
        "sessions",
        503,
        1,
    )
    rejected = lines(pair.gate, "handshake rejected")[0]
    assert (rejected["severity"], rejected["limit"], rejected["error"]) == ("INFO", "sessions", "503")
    assert 'readygate_limits_hit_total{limit="sessions"}' in metrics(pair.gate)


def test_a_library_client_is_told_by_a_status(run, behind):
    pair = behind("limits: {sessions_per_client: 1}")

    async def main():
        url = f"ws://127.0.0.1:{pair.gate.port}/ws/echo"
        async with websockets.connect(url) as first:
            with pytest.raises(InvalidStatus) as caught:
                await websockets.connect(url)
            response = caught.value.response
            assert response.status_code == 429
            assert response.headers["Retry-After"] == "1"
            await first.send("still here")
            assert await first.recv() == "still here"

    run(main())


def test_clients_behind_a_trusted_hop_have_each_their_own(run, behind):
    pair = behind("limits: {sessions_per_client: 1}", "http: {trusted_hops: 1}")

    async def main():
        async with (
            await wire.opened(pair.through, "/ws/echo", "X-Forwarded-For: 203.0.113.1") as one,
            await wire.opened(pair.through, "/ws/echo", "X-Forwarded-For: 203.0.113.1, 203.0.113.2") as other,
        ):
            head, told = await refused(pair.through, "X-Forwarded-For: 8.8.8.8, 203.0.113.1")
            assert (head.status, told["detail"]) == (429, "too many sessions of this client")
            await echoes(one)
            await echoes(other)

    run(main())
    assert lines(pair.gate, "handshake rejected")[0]["client_address"] == "203.0.113.1"
    opened = {line["client_address"] for line in lines(pair.gate, "session open")}
    assert opened == {"203.0.113.1", "203.0.113.2"}


def test_while_the_backend_takes_its_time_only_so_many_wait_for_it(run, behind):
    pair = behind("limits: {handshakes_pending: 2}")

    async def main():
        slow = wire.upgrade("/ws/slow?wait=1") + wire.text("waited")
        async with (
            await wire.Wire.dial(pair.through, slow) as one,
            await wire.Wire.dial(pair.through, slow) as other,
        ):
            while "readygate_handshakes_pending 2\n" not in await asyncio.to_thread(metrics, pair.gate):
                assert not one.head_at
            head, told = await refused(pair.through)
            assert (head.status, told["detail"]) == (503, "too many handshakes under way")
            for client in (one, other):
                assert await client.message() == b"waited"
            async with await admitted(pair.through) as late:
                await echoes(late)

    run(main())


@pytest.mark.parametrize("asked", [wire.upgrade("/ws/echo"), b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_long_head_is_refused_before_the_backend_hears_of_it(run, behind, asked: bytes):
    pair = behind("limits: {header_bytes: 8192}")

    async def main():
        many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(9))
        async with await wire.Wire.dial(pair.through, asked[:-2] + many + b"\r\n") as client:
            head, body = await client.head(), json.loads(await client.body())
            assert (head.status, body["detail"]) == (431, "the request head is too long")
        fewer = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(7))
        async with await wire.Wire.dial(pair.through, asked[:-2] + fewer + b"\r\n") as client:
            assert (await client.head()).status in {101, 200}

    run(main())


# -- a session --------------------------------------------------------------------------------------------


def test_a_library_client_with_too_long_a_message_gets_1009_and_its_backend_is_not_disturbed(run, behind):
    pair = behind(f"limits: {{message_bytes: {MESSAGE}}}")
    pair.backend.mark()

    async def main():
        url = f"ws://127.0.0.1:{pair.gate.port}/ws/loop"
        async with websockets.connect(url, compression=None) as client:
            await client.send("x" * MESSAGE)
            assert await client.recv() == "x" * MESSAGE
            await client.send("x" * 1_000_000)
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1009, "message too big")

    run(main())
    (closed,) = lines(pair.gate, "session closed")
    assert (closed["ended_by"], closed["reason"], closed["client_code"]) == ("gate", "too_big", 1009)
    assert closed["upstream"]["messages"] == 1
    assert closed["duration_s"] < 5  # nobody waited for a linger to end
    assert pair.backend.log() == ""


def test_a_backend_with_too_long_a_message_is_told_so_and_its_client_may_come_back(run, behind):
    pair = behind(f"limits: {{message_bytes: {MESSAGE}}}")

    async def main():
        # the backend says more than it heard: its answer has a counter behind it
        async with await wire.opened(pair.through, "/ws/ask/limits?wait=0") as client:
            client.send(wire.text("x" * MESSAGE))
            with pytest.raises(wire.ClosedError) as caught:
                await client.message()
            assert caught.value.code == 1014

    run(main())
    (closed,) = lines(pair.gate, "session closed")
    assert (closed["ended_by"], closed["reason"]) == ("gate", "too_big")
    assert (closed["client_code"], closed["upstream_code"]) == (1014, 1009)


def test_a_flood_is_slowed_down_and_nothing_of_it_is_lost(run, behind):
    pair = behind("limits: {messages_per_s: 400}")
    count = 600

    async def main():
        async with await wire.opened(pair.through, "/ws/echo") as client:
            await echoes(client)  # what comes before the gate is open is not counted
            started_s = time.monotonic()
            for number in range(count):
                client.send(wire.text(str(number)))
            assert [await client.message() for _ in range(count)] == [
                b"%d" % number for number in range(count)
            ]
            await echoes(client, "last")
            assert time.monotonic() - started_s >= 0.4
            assert await client.leave() == []

    run(main())


def test_a_session_that_is_idle_is_closed_and_so_logged(run, behind):
    pair = behind("limits: {idle_s: 0.5}")

    async def main():
        async with await wire.opened(pair.through, "/ws/echo") as client:
            await echoes(client)
            with pytest.raises(wire.ClosedError) as caught:
                await client.message()
            assert caught.value.code == 1001

    run(main())
    (closed,) = lines(pair.gate, "session closed")
    assert (closed["ended_by"], closed["reason"]) == ("gate", "idle")
    assert (closed["client_code"], closed["upstream_code"]) == (1001, 1001)
