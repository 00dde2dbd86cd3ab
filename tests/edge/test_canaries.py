"""A test for each thing that takeover.py relies upon and aiohttp does not document. One that fails means that
aiohttp has changed under us: look there before the version pin is moved.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from proxy.edge.takeover import HeadDeadline, Inbound, Outbound, head_arrived, with_head_deadline
from tests.edge.peers import Backend, Peer, eventually, request, vanish

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
LARGE = bytes(range(256)) * 1024  # 256 KiB: far more than aiohttp holds before it stops reading


class Ours(asyncio.Protocol):
    """A protocol in aiohttp's place, which remembers what it was told."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.ended: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.said += data

    def eof_received(self) -> bool:
        self.ended.append("eof")
        return True

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.append("lost")


@asynccontextmanager
async def serving(handler: Handler, deadline_s: float = 60) -> AsyncIterator[tuple[web.Server, int]]:
    server = web.Server(handler, access_log=None)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(with_head_deadline(server, deadline_s), "127.0.0.1", 0)
    try:
        yield server, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.shutdown(1)


class Taker:
    """A handler that waits until it may go on, and then takes the connection over."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[web.BaseRequest] = asyncio.Queue()
        self.may_take = asyncio.Event()
        self.taken: asyncio.Future[tuple[Inbound, Ours]] = asyncio.get_running_loop().create_future()
        self.may_answer = asyncio.Event()
        self.keep = True

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.put_nowait(request)
        await self.may_take.wait()
        ours = Ours()
        inbound = Inbound(request, ours)
        if self.keep:
            inbound.forget()
        self.taken.set_result((inbound, ours))
        if not self.keep:
            await self.may_answer.wait()
            inbound.give_back()
        response = web.Response(status=403, text="from the handler")
        response.force_close()
        return response

    async def take(self) -> tuple[Inbound, Ours]:
        self.may_take.set()
        return await self.taken


# -- server: the tail behind the upgrade request ----------------------------------------------------------


@pytest.mark.parametrize("tail", [b"", b"\x81\x05hello", LARGE[:5000]])
def test_set_parser_delivers_the_tail_that_came_in_the_requests_segment(tail, run_on_both):
    async def main():
        taker = Taker()
        taker.may_take.set()
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request() + tail)
            inbound, ours = await taker.take()
            await eventually(lambda: len(inbound.tail) + len(ours.said) >= len(tail))
            assert inbound.tail + ours.said == tail
            inbound.transport.abort()
            await vanish(peer)

    run_on_both(main())


def test_set_parser_delivers_what_came_while_the_handler_waited(run_on_both):
    async def main():
        taker = Taker()
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request() + b"same segment,")
            waiting = await taker.requests.get()
            peer.send(b"next segment")
            await eventually(lambda: waiting.protocol._message_tail.endswith(b"next segment"))
            inbound, ours = await taker.take()
            assert (inbound.tail, ours.said) == (b"same segment,next segment", b"")
            inbound.transport.abort()
            await vanish(peer)

    run_on_both(main())


def test_a_tail_for_which_reading_was_paused_is_whole_and_reading_goes_on(run_on_both):
    async def main():
        taker = Taker()
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request() + LARGE * 16)
            waiting = await taker.requests.get()
            await eventually(lambda: waiting.protocol._buffer_paused)
            inbound, ours = await taker.take()
            assert inbound.transport.is_reading()
            assert len(inbound.tail) >= 65536
            await eventually(lambda: len(inbound.tail) + len(ours.said) == len(LARGE) * 16)
            assert inbound.tail + ours.said == LARGE * 16
            inbound.transport.abort()
            await vanish(peer)

    run_on_both(main())


def test_no_byte_is_lost_at_the_swap_while_the_client_writes_all_the_time(run_on_both):
    """Connections one after the other, each swapped at another moment of a stream of numbers."""

    async def once(turns: int) -> None:
        taker = Taker()
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request())
            written = bytearray()
            numbers = itertools.count()

            def write_on() -> None:
                chunk = b"".join(next(numbers).to_bytes(4, "big") for _ in range(64))
                written.extend(chunk)
                peer.send(chunk)

            await taker.requests.get()
            for turn in range(turns + 20):
                write_on()
                await asyncio.sleep(0)
                if turn == turns:
                    taker.may_take.set()
            inbound, ours = await taker.taken
            write_on()
            await eventually(lambda: len(inbound.tail) + len(ours.said) == len(written))
            assert inbound.tail + ours.said == written
            inbound.transport.abort()
            await vanish(peer)

    async def main():
        for turns in range(25):
            await once(turns)

    run_on_both(main())


# -- server: forgetting and giving back -------------------------------------------------------------------


def test_forget_makes_aiohttp_drop_the_connection_and_leave_its_transport_alone(run_on_both):
    async def main():
        before = asyncio.all_tasks()
        taker = Taker()
        async with serving(taker) as (server, port):
            peer = await Peer.dial(port, request())
            inbound, ours = await taker.take()
            await eventually(lambda: asyncio.all_tasks() == before)  # the connection's tasks end
            await eventually(lambda: server.connections == [])
            assert peer.raw == b""  # what the handler returned was not written
            assert not inbound.transport.is_closing()
            inbound.transport.write(b"ours")
            assert await peer.exactly(4) == b"ours"
            peer.send(b"still")
            await eventually(lambda: ours.said == b"still")
            peer.close()
            await eventually(lambda: ours.ended)
            inbound.transport.close()
            await eventually(lambda: ours.ended == ["eof", "lost"])

    run_on_both(main())


def test_a_servers_shutdown_does_not_touch_what_it_forgot(run_on_both):
    async def main():
        taker = Taker()
        async with serving(taker) as (server, port):
            peer = await Peer.dial(port, request())
            inbound, _ = await taker.take()
            await server.shutdown(1)
            inbound.transport.write(b"alive")
            assert await peer.exactly(5) == b"alive"
            inbound.transport.abort()
            await vanish(peer)

    run_on_both(main())


def test_give_back_lets_aiohttp_answer_on_the_same_connection(run_on_both):
    async def main():
        taker = Taker()
        taker.keep = False
        async with serving(taker) as (server, port):
            peer = await Peer.dial(port, request() + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            inbound, ours = await taker.take()
            assert inbound.tail.startswith(b"GET /smuggled")
            peer.send(b"later bytes")
            await eventually(lambda: ours.said == b"later bytes")
            taker.may_answer.set()
            answer = await peer.end()
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert answer.endswith(b"\r\n\r\nfrom the handler")
            assert answer.count(b"HTTP/1.1") == 1  # what stood behind the upgrade is no request
            assert taker.requests.qsize() == 1
            await vanish(peer)
            await eventually(lambda: server.connections == [])

    run_on_both(main())


def test_bytes_that_come_after_give_back_go_nowhere(run_on_both):
    async def main():
        taker = Taker()
        taker.keep = False
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request())
            inbound, ours = await taker.take()
            inbound.give_back()
            peer.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            protocol = (await taker.requests.get()).protocol
            await eventually(lambda: protocol._payload_parser.tail)
            taker.may_answer.set()
            assert (await peer.end()).count(b"HTTP/1.1") == 1
            assert ours.said == b""
            await vanish(peer)

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
@pytest.mark.parametrize("keep", [True, False])
def test_a_client_gone_before_the_handler_took_over_is_seen_as_no_transport(leave, keep, run_on_both):
    async def main():
        before = asyncio.all_tasks()
        taker = Taker()
        taker.keep = keep
        async with serving(taker) as (server, port):
            peer = await Peer.dial(port, request() + b"tail")
            waiting = await taker.requests.get()
            await eventually(lambda: waiting.protocol._message_tail == b"tail")
            leave(peer)
            await eventually(lambda: waiting.protocol.transport is None)
            inbound, ours = await taker.take()
            assert (inbound.transport, inbound.tail) == (None, b"tail")
            assert not inbound.writing_paused
            taker.may_answer.set()
            await eventually(lambda: asyncio.all_tasks() == before)
            await eventually(lambda: server.connections == [])
            assert ours.ended == []

    run_on_both(main())


def test_writing_paused_tells_of_a_transport_that_is_full_at_the_swap(run_on_both):
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        request.transport.write(LARGE * 64)
        inbound = Inbound(request, Ours())
        assert inbound.writing_paused
        inbound.transport.abort()
        inbound.forget()
        done.set_result(None)
        return web.Response()

    async def main():
        nonlocal done
        done = asyncio.get_running_loop().create_future()
        async with serving(handler) as (_, port):
            peer = await Peer.dial(port)
            peer.transport.pause_reading()
            peer.send(request())
            await done
            await vanish(peer)

    done: asyncio.Future[None]
    run_on_both(main())


# -- server: what the deadline for heads looks at ---------------------------------------------------------


def test_a_head_deadline_is_made_from_the_arguments_of_the_server(run_on_both):
    async def main():
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(text=f"{request.protocol.max_line_size} {type(request.protocol).__name__}")

        server = web.Server(handler, access_log=None, max_line_size=4321)
        assert server._loop is asyncio.get_running_loop()
        assert server._kwargs["max_line_size"] == 4321
        made = with_head_deadline(server, 60)()
        assert isinstance(made, HeadDeadline)
        assert made.max_line_size == 4321
        assert made._loop is server._loop

    run_on_both(main())


def test_while_a_head_is_incomplete_all_that_the_deadline_looks_at_is_empty(run_on_both):
    async def main():
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            protocols.append(request.protocol)
            in_handler.append(
                (request.protocol._request_in_progress, request.protocol._current_request is request)
            )
            armed.append(request.protocol._deadline is not None)
            await head_arrived(request)
            arrived.set()
            await go_on.wait()
            return web.Response(text="ok")

        protocols: list[HeadDeadline] = []
        in_handler: list[tuple[bool, bool]] = []
        armed: list[bool] = []
        async with serving(handler) as (server, port):
            peer = await Peer.dial(port, b"GET / HTTP/1.1\r\nHo")
            await eventually(lambda: server.connections)
            (protocol,) = server.connections
            assert isinstance(protocol, RequestHandler)
            state = (protocol._messages, protocol._request_in_progress, protocol._payload_parser,
                     protocol._current_request)  # fmt: skip
            assert [bool(part) for part in state] == [False, False, False, False]
            assert protocol._deadline is not None
            peer.send(b"st: a\r\n\r\n")
            await arrived.wait()
            assert in_handler == [(True, True)]
            assert protocol._deadline is None
            peer.send(
                b"GET /next HTTP/1.1\r\nHos"
            )  # while a request is served, no deadline runs for the next
            await eventually(lambda: protocol._deadline is None)
            go_on.set()
            await peer.until(lambda: peer.raw.endswith(b"ok"))
            await eventually(lambda: not protocol._request_in_progress)
            await vanish(peer)
            await eventually(lambda: server.connections == [])
            assert protocol._deadline is None

    run_on_both(main())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow:"])
def test_a_head_that_does_not_come_is_answered_408_and_closed(sent, run_on_both):
    async def main():
        async def handler(_: web.BaseRequest) -> web.StreamResponse:
            raise AssertionError("no request came")

        async with serving(handler, deadline_s=0.05) as (server, port):
            peer = await Peer.dial(port, sent)
            assert (await peer.end()).startswith(b"HTTP/1.1 408 ")
            peer.close()
            await eventually(lambda: server.connections == [])

    run_on_both(main())


def test_a_connection_that_is_taken_over_has_no_deadline_any_more(run_on_both):
    async def main():
        taker = Taker()
        async with serving(taker) as (_, port):
            peer = await Peer.dial(port, request())
            protocol = (await taker.requests.get()).protocol
            inbound, _ = await taker.take()
            assert protocol._deadline is None
            inbound.transport.abort()
            await vanish(peer)

    run_on_both(main())


def test_a_second_request_on_a_kept_connection_has_a_deadline_of_its_own(run_on_both):
    async def main():
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            await head_arrived(request)
            return web.Response(text="ok")

        async with serving(handler, deadline_s=0.1) as (_, port):
            peer = await Peer.dial(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.until(lambda: peer.raw.endswith(b"ok"))
            peer.send(b"GET / HTTP/1.1\r\n")
            assert b"HTTP/1.1 408 " in await peer.end()
            await vanish(peer)

    run_on_both(main())


# -- client: one response head, and then the stream -------------------------------------------------------


@asynccontextmanager
async def dialled() -> AsyncIterator[tuple[Outbound, Peer]]:
    """An outbound connection to a peer that holds the request."""
    loop = asyncio.get_running_loop()
    async with Backend.listening() as backend:
        outbound = Outbound(loop)
        await loop.create_connection(lambda: outbound.protocol, "127.0.0.1", backend.port)
        peer = await backend.connection()
        yield outbound, peer
        outbound.abort()


SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Raw: \xe9\r\n\r\n"
)


async def exchanged(outbound: Outbound, peer: Peer, *segments: bytes):
    """Send a request and answer it; segments go out one after the other."""
    answer = asyncio.ensure_future(outbound.exchange(request()))
    assert await peer.head() == request()
    for segment in segments:
        peer.send(segment)
        await asyncio.sleep(0)
    return await answer


@pytest.mark.parametrize(
    "tail", [b"", b"\x81\x02hi", LARGE], ids=["none", "short", "so long that reading is paused"]
)
def test_what_comes_behind_the_101_in_its_segment_is_handed_over(tail, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            message, _ = await exchanged(outbound, peer, SWITCH + tail)
            assert (message.code, message.reason) == (101, "Switching Protocols")
            assert (b"X-Raw", b"\xe9") in message.raw_headers
            if tail is LARGE:
                await eventually(lambda: outbound._protocol._buffer_paused)
            ours = Ours()
            got, lost = outbound.hand_over(ours)
            assert not lost
            assert outbound.transport.is_reading()
            peer.send(b"after")
            await eventually(lambda: len(got) + len(ours.said) == len(tail) + 5)
            assert got + ours.said == tail + b"after"
            outbound.transport.write(b"to you")
            assert await peer.exactly(6) == b"to you"
            peer.close()
            await eventually(lambda: ours.ended == ["eof"])
            outbound.transport.close()
            await eventually(lambda: ours.ended == ["eof", "lost"])

    run_on_both(main())


def test_no_byte_is_lost_at_the_handing_over_while_the_upstream_writes_all_the_time(run_on_both):
    async def once(turns: int) -> None:
        async with dialled() as (outbound, peer):
            answer = asyncio.ensure_future(outbound.exchange(request()))
            await peer.head()
            peer.send(SWITCH)
            numbers, written, ours = itertools.count(), bytearray(), Ours()
            got = b""
            for turn in range(turns + 10):
                chunk = b"".join(next(numbers).to_bytes(4, "big") for _ in range(64))
                written += chunk
                peer.send(chunk)
                await asyncio.sleep(0)
                if turn == turns:
                    await answer
                    got, _ = outbound.hand_over(ours)
            await eventually(lambda: len(got) + len(ours.said) == len(written))
            assert got + ours.said == written

    async def main():
        for turns in range(25):
            await once(turns)

    run_on_both(main())


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
def test_a_101_whose_connection_ends_at_once_is_still_read_and_its_tail_handed_over(end, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            answer = asyncio.ensure_future(outbound.exchange(request()))
            await peer.head()
            peer.send(SWITCH + b"\x88\x02\x11\x31")
            await eventually(lambda: outbound._protocol._tail)
            end(peer)
            await eventually(lambda: outbound._protocol.transport is None)  # aiohttp was told, we will not be
            message, _ = await answer
            assert message.code == 101
            ours = Ours()
            assert outbound.hand_over(ours) == (b"\x88\x02\x11\x31", True)
            assert outbound.transport.is_closing()
            await asyncio.sleep(0)
            assert ours.ended == []

    run_on_both(main())


def test_an_end_that_comes_after_the_handing_over_is_ours_to_hear(run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            await exchanged(outbound, peer, SWITCH)
            ours = Ours()
            outbound.hand_over(ours)
            peer.reset()
            await eventually(lambda: ours.ended == ["lost"])

    run_on_both(main())


@pytest.mark.parametrize(
    "segments",
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", SWITCH + b"tail"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCH + b"tail",),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", SWITCH + b"tail"),
        tuple(bytes([byte]) for byte in b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH + b"tail"),
    ],
    ids=["100", "100 in one segment", "103 and 102", "byte by byte"],
)
def test_interim_responses_before_the_101_are_passed_over(segments, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            message, _ = await exchanged(outbound, peer, *segments)
            assert message.code == 101
            ours = Ours()
            got, _ = outbound.hand_over(ours)
            await eventually(lambda: got + ours.said == b"tail")

    run_on_both(main())


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever", b"never"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnev\r\n2\r\ner\r\n0\r\n\r\n", b"never"),
        (b"HTTP/1.1 403 No\r\n\r\nnever", b"never"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 403 No\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nnever", b"never"),
        (b"HTTP/1.0 403 No\r\n\r\nnever", b"never"),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nnever",
            b"never",
        ),
    ],
    ids=["length", "chunked", "until eof", "empty", "304", "encoded", "1.0", "200 with upgrade"],
)
def test_the_body_of_another_answer_can_be_read(answer, body, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            message, stream = await exchanged(outbound, peer, answer)
            assert message.code == int(answer[9:12])
            peer.close()
            assert await stream.read() == body

    run_on_both(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnev",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnev\r\n",
    ],
)
def test_a_body_that_breaks_off_is_an_error_of_its_reader(answer, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            _, stream = await exchanged(outbound, peer, answer)
            peer.close()
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.read()

    run_on_both(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["ssh", "tls", "no status", "bad length", "huge field", "zeros"],
)
def test_garbage_instead_of_an_answer_is_an_error_at_once(answer, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            with pytest.raises((aiohttp.ClientError, HttpProcessingError)):
                await exchanged(outbound, peer, answer)
            assert outbound.transport.is_closing()

    run_on_both(main())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swi"])
@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
def test_an_end_instead_of_an_answer_is_an_error(said, end, run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            answer = asyncio.ensure_future(outbound.exchange(request()))
            await peer.head()
            peer.send(said)
            end(peer)
            with pytest.raises((aiohttp.ClientError, OSError)):
                await answer

    run_on_both(main())


def test_abort_ends_a_connection_in_the_middle_of_an_exchange(run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            answer = asyncio.ensure_future(outbound.exchange(request()))
            await peer.head()
            outbound.abort()
            with pytest.raises((aiohttp.ClientError, OSError)):
                await answer
            await peer.end()

    run_on_both(main())


def test_after_the_handing_over_no_read_timeout_runs_and_nothing_is_kept(run_on_both):
    async def main():
        async with dialled() as (outbound, peer):
            await exchanged(outbound, peer, SWITCH)
            outbound.hand_over(Ours())
            protocol = outbound.protocol
            assert isinstance(protocol, ResponseHandler)
            assert protocol._read_timeout_handle is None
            assert protocol.transport is None
            assert isinstance(outbound.transport.get_extra_info("socket"), object)
            assert outbound.transport.get_extra_info("socket").type == socket.SOCK_STREAM

    run_on_both(main())
