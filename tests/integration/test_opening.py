"""The connect-time faults are gone, on every backend that we know, through a real gate."""

from __future__ import annotations

import json

import pytest

from tests.backends import front, launch, wire
from tests.integration.conftest import ALL, Pair

every_backend = pytest.mark.parametrize("pair", ALL, indirect=True)
ANNOUNCED = """
extends: production
routes:
  - path: /ws/**
    handshake:
      upstream:
        announcement: {evidence: message, json: {path: type, equals: connection_established}, budget_ms: 2000}
"""


async def messages(client: wire.Wire, count: int) -> list[bytes]:
    return [await client.message() for _ in range(count)]


@every_backend
def test_frames_in_the_same_segment_as_the_upgrade_are_delivered_in_order(run, pair: Pair):
    async def main():
        early = b"".join(wire.text(f"early {number}") for number in range(3))
        async with await wire.opened(pair.through, "/ws/echo", early=early) as client:
            client.send(wire.text("later"))
            assert await messages(client, 4) == [b"early 0", b"early 1", b"early 2", b"later"]
            assert await client.leave() == []

    run(main())


@every_backend
def test_frames_sent_while_the_application_takes_its_time_to_accept_are_delivered(run, pair: Pair):
    async def main():
        request = wire.upgrade("/ws/slow?wait=0.25")
        async with await wire.Wire.dial(pair.through, request + wire.text("0")) as client:
            client.send(wire.text("1"))
            assert not client.head_at
            assert (await client.head()).status == 101
            client.send(wire.text("2"))
            assert await messages(client, 3) == [b"0", b"1", b"2"]

    run(main())


@every_backend
@pytest.mark.parametrize(
    "drops", [False, True], ids=["careful client", "client that drops what it over-read"]
)
def test_what_the_server_pushes_at_once_is_heard(run, pair: Pair, drops: bool):
    async def main():
        async with await wire.opened(pair.through, "/ws/greet?count=3", drop_over_read=drops) as client:
            assert await messages(client, 3) == [b"push 0", b"push 1", b"push 2"]
            client.send(wire.text("thanks"))
            assert await client.message() == b"thanks"

    run(main())


@every_backend
def test_a_ready_message_of_the_backend_comes_first_and_once(run, pair: Pair):
    async def main():
        async with await wire.opened(pair.through, "/ws/announce") as client:
            assert json.loads(await client.message()) == {"type": "connection_established"}
            client.send(wire.text("hello"))
            assert await client.message() == b"hello"

    run(main())


@pytest.mark.needs_node
@pytest.mark.parametrize("pair", ["node"], indirect=True)
def test_a_listener_attached_late_hears_everything_when_the_policy_waits_for_its_announcement(
    run, pair, stands
):
    late = stands.pair("node", ANNOUNCED)

    async def main():
        async with await wire.opened(late.through, "/ws/late?wait=60", early=wire.text("early")) as client:
            client.send(wire.text("at once"))
            got = await messages(client, 3)
            assert json.loads(got[0]) == {"type": "connection_established"}
            assert got[1:] == [b"early", b"at once"]

    run(main())


def test_a_client_that_comes_before_its_backend_is_served_once_it_is_there(run):
    port = launch.free_port()

    async def main(through):
        async with await wire.Wire.dial(through, wire.upgrade("/ws/echo") + wire.text("early")) as client:
            with launch.uvicorn(port=port, wait=False):
                assert (await client.head()).status == 101
                assert await client.message() == b"early"

    with front.gate(f"http://127.0.0.1:{port}") as gate:
        run(main((gate.host, gate.port)))


@pytest.mark.parametrize("status", [500, 503])
def test_a_backend_that_refuses_the_first_upgrades_is_asked_again(run, stands, status):
    pair = stands.pair("flaky")

    async def main():
        path = f"/cold?id=again-{status}&refuse=3&status={status}"
        async with await wire.opened(pair.through, path, early=wire.text("early")) as client:
            assert await client.message() == b"early"

    run(main())


def test_sockets_dropped_just_after_they_were_accepted_are_replaced_unnoticed(run, stands):
    pair = stands.pair("flaky")

    async def one(number: int):
        path, early = f"/dropped?id=client-{number}", wire.text("early")
        async with await wire.opened(pair.through, path, early=early) as client:
            assert await client.message() == b"early"
            client.send(wire.text("later"))
            assert await client.message() == b"later"

    async def main():
        for number in range(40):
            await one(number)

    run(main())


def test_an_upgrade_that_keeps_failing_is_answered_with_the_backends_own_last_response(run, stands):
    policy = "extends: production\nhandshake: {redial: {tries: 2, base_ms: 1}}\n"
    pair = stands.pair("uvicorn-websockets-sansio", policy)

    async def main():
        async with await wire.Wire.dial(pair.through, wire.upgrade("/ws/crash")) as client:
            assert (await client.head()).status == 500
            assert await client.body() == b"Internal Server Error"

    pair.backend.mark()
    run(main())
    assert pair.backend.log().count("RuntimeError: the database is not up yet") == 2


def test_a_client_that_is_gone_before_accept_leaves_no_error_behind(run, stands):
    pair = stands.pair("uvicorn-wsproto")
    device = f"gone-{pair.gate.pid}"

    async def books() -> dict:
        request = b"GET /ws/ingest HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        async with await wire.Wire.dial(pair.direct, request) as client:
            return json.loads(await client.body())

    async def main():
        request = wire.upgrade(f"/ws/ingest/{device}?wait=0.2") + wire.text("0") + wire.text("1")
        async with await wire.Wire.dial(pair.through, request + wire.close()) as client:
            while device not in (await books())["arrived"]:
                pass
            client.hang_up()
        while len((await books())["inbox"].get(device, [])) < 2:
            pass
        assert (await books())["inbox"][device] == ["0", "1"]

    pair.backend.mark()
    run(main())
    assert pair.backend.log() == ""
