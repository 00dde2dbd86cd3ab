"""`accept: eager`: the client has its 101 at once, the backend takes its time, failures are close codes."""

from __future__ import annotations

import pytest

from tests.backends import front, launch, wire
from tests.backends.wire import ClosedError
from tests.integration.conftest import Pair

EAGER = """
extends: production
handshake: {accept: eager, deadline_s: 3, eager: {subprotocols: [chat.v1]}}
"""


@pytest.fixture
def pair(stands) -> Pair:
    return stands.pair("uvicorn-websockets-sansio", EAGER)


async def end_of(client: wire.Wire) -> tuple[int, str]:
    with pytest.raises(ClosedError) as closed:
        await client.message()
    return closed.value.code, closed.value.reason


def test_what_is_said_while_the_backend_is_still_accepting_arrives_in_order(run, pair: Pair):
    async def main():
        path = "/ws/slow?wait=0.3"
        async with await wire.opened(pair.through, path, early=wire.text("0")) as client:
            client.send(wire.text("1"))
            assert [await client.message(), await client.message()] == [b"0", b"1"]
            client.send(wire.text("2"))
            assert await client.message() == b"2"
            assert await client.leave() == []

    run(main())


def test_what_the_server_pushes_at_once_is_heard(run, pair: Pair):
    async def main():
        async with await wire.opened(pair.through, "/ws/greet?count=2", drop_over_read=True) as client:
            assert [await client.message(), await client.message()] == [b"push 0", b"push 1"]

    run(main())


@pytest.mark.parametrize(
    ("offered", "agreed"), [("chat.v2, chat.v1", "chat.v1"), ("chat.v2", None)], ids=["listed", "not listed"]
)
def test_only_a_subprotocol_that_the_policy_lists_is_agreed_to(
    run, pair: Pair, offered: str, agreed: str | None
):
    async def main():
        fields = (f"Sec-WebSocket-Protocol: {offered}", "Sec-WebSocket-Extensions: permessage-deflate")
        async with await wire.opened(pair.through, "/ws/protocol", *fields) as client:
            head = await client.head()
            assert head.get("Sec-WebSocket-Protocol") == agreed
            assert head.get("Sec-WebSocket-Extensions") is None
            client.send(wire.text("hello"))
            assert await client.message() == b"hello"

    run(main())


@pytest.mark.parametrize(("path", "status"), [("/ws/reject", "403"), ("/ws/denied", "401")])
def test_a_rejection_ends_as_1008_with_the_status_in_the_reason(run, pair: Pair, path: str, status: str):
    async def main():
        async with await wire.opened(pair.through, path) as client:
            code, reason = await end_of(client)
            assert code == 1008
            assert status in reason

    run(main())


def test_a_close_after_accept_is_passed_on(run, pair: Pair):
    async def main():
        async with await wire.opened(pair.through, "/ws/close?code=4401&reason=token") as client:
            assert await end_of(client) == (4401, "token")

    run(main())


def test_a_backend_that_never_comes_ends_as_1013_at_the_deadline(run):
    async def main(through):
        async with await wire.opened(through, "/ws/echo", early=wire.text("anybody?")) as client:
            assert (await end_of(client))[0] == 1013

    policy = EAGER.replace("deadline_s: 3", "deadline_s: 1")
    with front.gate(f"http://127.0.0.1:{launch.free_port()}", policy) as gate:
        run(main((gate.host, gate.port)))
