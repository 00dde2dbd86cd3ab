"""One try at an upstream that answers, refuses, hangs or lies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme

from proxy.edge.dial import Dial, DialError, Response, accept_value, upgrade_request
from proxy.edge.upstream import Upstream, parse_upstream
from tests.backends.launch import free_port
from tests.edge.peers import KEY, Backend, Peer, request, vanish

HOLDABLE = frozenset({503})


async def dialled(upstream: Upstream, tls: ssl.SSLContext | None = None, name: str | None = None) -> Dial:
    dial = Dial(asyncio.get_running_loop(), upstream, tls)
    await dial.connect(5, name)
    return dial


async def answered(act: Callable[[Peer, bytes], Awaitable[None] | None]) -> Response:
    """Dial a backend that answers as `act` does."""
    async with Backend.listening() as backend:
        dial = await dialled(parse_upstream(f"http://127.0.0.1:{backend.port}"))
        try:
            asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
            peer, head = await backend.requested()
            act(peer, head)
            return await asking
        finally:
            dial.abort()


def raw(answer: bytes, *, close: bool = False) -> Callable[[Peer, bytes], None]:
    def act(peer: Peer, _: bytes) -> None:
        peer.send(answer)
        if close:
            peer.close()

    return act


def test_the_key_of_the_rfc_has_the_accept_value_of_the_rfc():
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_value(b" dGhlIHNhbXBsZSBub25jZQ== ") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_an_upgrade_request_is_the_fields_as_they_are_and_our_own_hop():
    assert upgrade_request(b"/a?%zz", [(b"hOsT", b"h"), (b"X", b"\xe9"), (b"X", b"")]) == (
        b"GET /a?%zz HTTP/1.1\r\nhOsT: h\r\nX: \xe9\r\nX: \r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


def test_a_101_tells_what_was_negotiated(run):
    fields = (
        b"Sec-WebSocket-Protocol: chat",
        b"sec-websocket-extensions: a; b=1",
        b"Sec-WebSocket-Extensions: c",
    )
    response = run(answered(lambda peer, head: peer.accept(head, *fields)))
    assert response.accepted
    assert (response.subprotocol, response.extensions) == ("chat", "a; b=1, c")
    plain = run(answered(lambda peer, head: peer.accept(head)))
    assert (plain.subprotocol, plain.extensions) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX: a\x7fb\r\n\r\n",
        b"HTTP/1.1 403 No\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        "bare",
        "no accept value",
        "wrong accept value",
        "another protocol",
        "no HTTP",
        "DEL",
        "control",
        "99",
    ],
)
def test_an_answer_that_is_false_or_cannot_be_passed_on_is_a_bad_one(answer, run):
    with pytest.raises(DialError) as caught:
        run(answered(raw(answer)))
    assert caught.value.cause == "bad_answer"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swi"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_connection_that_ends_before_the_answer_is_lost(said, leave, run_on_both):
    def act(peer: Peer, _: bytes) -> None:
        peer.send(said)
        leave(peer)

    with pytest.raises(DialError) as caught:
        run_on_both(answered(act))
    assert caught.value.cause == "lost"


def test_a_holdable_answer_is_held_whole(run):
    response = run(answered(raw(b"HTTP/1.1 503 Later\r\nContent-Length: 5\r\nX: \xe9\r\n\r\nlater")))
    assert (response.status, response.reason, response.body) == (503, "Later", b"later")
    assert response.rest is None
    assert (b"X", b"\xe9") in response.headers
    assert not response.accepted


def test_a_holdable_answer_that_is_too_long_is_held_in_part_and_the_rest_can_be_read(run_on_both):
    body = bytes(range(256)) * 2000

    async def main():
        async with Backend.listening() as backend:
            dial = await dialled(parse_upstream(f"http://127.0.0.1:{backend.port}"))
            asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
            peer, _ = await backend.requested()
            peer.send(b"HTTP/1.1 503 Later\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            response = await asking
            assert response.rest is not None
            assert 65536 < len(response.body) < len(body)
            assert response.body + await response.rest.read() == body
            dial.abort()

    run_on_both(main())


def test_a_final_answer_is_not_waited_for_to_its_end(run):
    async def main():
        async with Backend.listening() as backend:
            dial = await dialled(parse_upstream(f"http://127.0.0.1:{backend.port}"))
            asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
            peer, _ = await backend.requested()
            peer.send(b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\nfirst")
            response = await asking
            assert (response.status, response.body) == (401, b"")
            peer.send(b"then")
            assert await response.rest.read() == b"firstthen"
            dial.abort()

    run(main())


def test_a_holdable_answer_that_breaks_off_is_no_answer(run):
    with pytest.raises(DialError):
        run(answered(raw(b"HTTP/1.1 503 Later\r\nContent-Length: 9\r\n\r\nlat", close=True)))


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:{port}", "refused"),
        ("unix:{folder}/nobody.sock", "refused"),
        ("http://a.invalid", "dns"),
    ],
)
def test_an_upstream_that_is_not_there_has_a_cause(url, cause, run_on_both, tmp_path):
    async def main():
        with pytest.raises(DialError) as caught:
            await dialled(parse_upstream(url.format(port=free_port(), folder=tmp_path)))
        assert caught.value.cause == cause

    run_on_both(main())


def test_a_connection_that_does_not_come_about_is_a_timeout(run_on_both):
    """A listener whose queue is full does not answer."""

    async def main():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            waiting = []
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                waiting.append(sock)
            dial = Dial(
                asyncio.get_running_loop(),
                parse_upstream(f"http://127.0.0.1:{listener.getsockname()[1]}"),
                None,
            )
            with pytest.raises(DialError) as caught:
                await dial.connect(0.05, None)
            assert caught.value.cause == "timeout"
            for sock in waiting:
                sock.close()

    run_on_both(main())


def test_a_unix_socket_can_be_dialled(run_on_both, tmp_path):
    async def main():
        backend = Backend()
        path = str(tmp_path / "app.sock")
        server = await asyncio.get_running_loop().create_unix_server(backend._made, path)
        dial = await dialled(parse_upstream(f"unix:{path}"))
        asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
        peer, head = await backend.requested()
        peer.accept(head)
        assert (await asking).accepted
        dial.abort()
        server.close()
        await vanish(peer)

    run_on_both(main())


@pytest.mark.parametrize(
    ("name", "trusted", "cause"),
    [
        (None, True, "tls"),
        ("backend.test", True, None),
        ("other.test", True, "tls"),
        ("backend.test", False, "tls"),
    ],
    ids=["address is not in the certificate", "named", "wrong name", "unknown authority"],
)
def test_tls_is_checked_against_the_server_name(name, trusted, cause, run_on_both):
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("backend.test").configure_cert(served)
    ours = ssl.create_default_context()
    (authority if trusted else trustme.CA()).configure_trust(ours)

    async def main():
        backend = Backend()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(backend._made, "127.0.0.1", 0, ssl=served)
        upstream = parse_upstream(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        if cause is not None:
            with pytest.raises(DialError) as caught:
                await dialled(upstream, ours, name)
            assert caught.value.cause == cause
        else:
            dial = await dialled(upstream, ours, name)
            asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
            peer, head = await backend.requested()
            peer.accept(head)
            assert (await asking).accepted
            dial.abort()
            await vanish(peer)
        server.close()

    run_on_both(main())


def test_a_server_that_speaks_no_tls_is_a_tls_error(run_on_both):
    async def main():
        async with Backend.listening() as backend:
            dialling = asyncio.ensure_future(
                dialled(parse_upstream(f"https://127.0.0.1:{backend.port}"), ssl.create_default_context())
            )
            peer = await backend.connection()
            await peer.until(lambda: peer.raw)
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(DialError) as caught:
                await dialling
            assert caught.value.cause == "tls"

    run_on_both(main())


def test_abort_ends_a_try_at_any_time(run_on_both):
    async def main():
        async with Backend.listening() as backend:
            loop = asyncio.get_running_loop()
            Dial(loop, parse_upstream("http://127.0.0.1:1"), None).abort()  # before it connected
            dial = await dialled(parse_upstream(f"http://127.0.0.1:{backend.port}"))
            asking = asyncio.ensure_future(dial.upgrade(request(), KEY, HOLDABLE))
            peer, _ = await backend.requested()
            dial.abort()
            with pytest.raises(DialError):
                await asking
            await peer.end()

    run_on_both(main())
