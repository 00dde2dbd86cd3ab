"""What the backend says is what the client hears: rejections, closes, negotiation, frames, HTTP."""

from __future__ import annotations

import os

import pytest
from websockets.asyncio.client import connect

from tests.backends import wire
from tests.backends.wire import ClosedError, Head
from tests.integration.conftest import ALL, Address, Pair

every_backend = pytest.mark.parametrize("pair", ALL, indirect=True)
uvicorns = pytest.mark.parametrize("pair", ALL[:3], indirect=True)
HOP_BY_HOP = {"date", "connection", "keep-alive", "transfer-encoding"}


async def answer(address: Address, request: bytes) -> tuple[Head, bytes]:
    async with await wire.Wire.dial(address, request) as client:
        return await client.head(), await client.body()


def fields(head: Head) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in head.fields if name.lower() not in HOP_BY_HOP)


@every_backend
def test_a_rejection_reaches_the_client_as_the_response_that_it_was(run, pair: Pair):
    async def main():
        direct, body = await answer(pair.direct, wire.upgrade("/ws/reject"))
        head, mirrored = await answer(pair.through, wire.upgrade("/ws/reject"))
        assert head.status == direct.status == 403
        assert (mirrored, fields(head)) == (body, fields(direct))

    run(main())


@uvicorns
def test_an_http_exception_before_accept_keeps_its_headers_and_body(run, pair: Pair):
    async def main():
        head, body = await answer(pair.through, wire.upgrade("/ws/denied"))
        assert (head.status, head.get("WWW-Authenticate")) == (401, "Bearer")
        assert body == b'{"detail":"who are you?"}'

    run(main())


@pytest.mark.parametrize("pair", ALL[:6], indirect=True)
def test_an_upgrade_of_an_unknown_path_is_answered_as_the_backend_does(run, pair: Pair):
    async def main():
        direct, body = await answer(pair.direct, wire.upgrade("/nowhere"))
        head, mirrored = await answer(pair.through, wire.upgrade("/nowhere"))
        assert (head.status, mirrored) == (direct.status, body)
        assert 400 <= head.status < 600

    run(main())


@every_backend
def test_a_close_after_accept_is_passed_on_with_code_and_reason(run, pair: Pair):
    async def close(address: Address) -> tuple[int, str]:
        async with await wire.opened(address, "/ws/close?code=4401&reason=token") as client:
            with pytest.raises(ClosedError) as closed:
                await client.message()
            return closed.value.code, closed.value.reason

    async def main():
        direct = await close(pair.direct)
        assert await close(pair.through) == direct
        assert direct[0] == 4401

    run(main())


@every_backend
def test_a_close_of_the_client_is_answered_by_the_gate_or_as_the_backend_does(run, pair: Pair):
    async def close(address: Address) -> int:
        async with await wire.opened(address, "/ws/echo") as client:
            client.send(wire.close(4000, "bye"))
            with pytest.raises(ClosedError) as closed:
                await client.message()
            return closed.value.code

    async def main():
        assert await close(pair.through) in {4000, await close(pair.direct)}

    run(main())


@every_backend
def test_the_chosen_subprotocol_and_headers_are_mirrored(run, pair: Pair):
    async def opened(address: Address) -> Head:
        async with await wire.opened(
            address, "/ws/protocol", "Sec-WebSocket-Protocol: chat.v1, chat.v2"
        ) as client:
            client.send(wire.text("hello"))
            assert await client.message() == b"hello"
            return await client.head()

    async def main():
        direct, head = await opened(pair.direct), await opened(pair.through)
        for name in ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "X-Offered"):
            assert head.all(name) == direct.all(name)

    run(main())


@every_backend
def test_compression_is_negotiated_and_used_end_to_end(run, pair: Pair):
    async def extensions(address: Address) -> list[str]:
        text = "compress me " * 5000
        host, port = address
        async with connect(f"ws://{host}:{port}/ws/echo", proxy=None) as client:
            for _ in range(3):
                await client.send(text)
                assert await client.recv() == text
            return [type(extension).__name__ for extension in client.protocol.extensions]

    async def main():
        assert await extensions(pair.through) == await extensions(pair.direct)

    run(main())


@every_backend
def test_a_message_of_one_mebibyte_comes_back_whole(run, pair: Pair):
    payload = os.urandom(1 << 20)

    async def main():
        async with await wire.opened(pair.through, "/ws/echo", early=wire.binary(payload)) as client:
            assert await client.message() == payload
            client.send(wire.binary(payload[::-1]))
            assert await client.message() == payload[::-1]

    run(main())


@every_backend
def test_fragments_with_a_ping_between_them_come_back_as_one_message_and_a_pong(run, pair: Pair):
    async def main():
        async with await wire.opened(pair.through, "/ws/echo") as client:
            client.send(wire.binary(b"one ", first=0x01), wire.binary(b"two ", first=0x00))
            client.send(wire.binary(b"still there?", first=wire.PING))
            client.send(wire.binary(b"three", first=0x80))
            pongs, message = [], b""
            while not (message and pongs):
                frame = await client.frame()
                if frame.opcode == 0xA:
                    pongs.append(frame.payload)
                elif frame.opcode < 0x8:
                    message += frame.payload
            assert (pongs, message) == ([b"still there?"], b"one two three")

    run(main())


@every_backend
def test_ordinary_http_beside_the_sockets_passes_through(run, pair: Pair):
    request = b"GET /ws/config?full=1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

    async def main():
        direct, body = await answer(pair.direct, request)
        head, passed = await answer(pair.through, request)
        assert head.status == direct.status == 200
        assert (passed, head.all("Content-Type")) == (body, direct.all("Content-Type"))

    run(main())


def test_an_unknown_path_over_http_is_the_backends_own_404(run, chat: Pair):
    request = b"GET /nowhere HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

    async def main():
        direct, body = await answer(chat.direct, request)
        head, passed = await answer(chat.through, request)
        assert (head.status, passed, fields(head)) == (404, body, fields(direct))

    run(main())


def test_a_request_body_and_its_query_reach_the_backend_untouched(run, chat: Pair):
    body = os.urandom(200_000).hex().encode()
    lines = [
        "POST /items?a=1&b=%20x&a=2 HTTP/1.1",
        "Host: here",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def main():
        head, passed = await answer(chat.through, request)
        assert head.status == 201
        assert passed == (await answer(chat.direct, request))[1]

    run(main())


def test_the_backend_sees_who_asked_and_the_clients_own_headers(run, chat: Pair):
    request = (
        b"GET /whoami HTTP/1.1\r\nHost: shop.test\r\nCookie: a=1\r\nX-Odd: yes\r\nConnection: close\r\n\r\n"
    )

    async def main():
        _, body = await answer(chat.through, request)
        for expected in (
            b'"host":"shop.test"',
            b'"cookie":"a=1"',
            b'"x-odd":"yes"',
            b'"x-forwarded-for":"127.0.0.1"',
        ):
            assert expected in body
        assert b'"x-forwarded-proto":"http"' in body

    run(main())
