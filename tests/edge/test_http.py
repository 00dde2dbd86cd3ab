"""The pass-through on real sockets: a raw client, the gate, a raw upstream whose every byte we choose."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import trustme
from aiohttp import web

from proxy.edge.http import PassThrough, http_server, upstream_tls
from proxy.edge.upstream import Upstream, parse_upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Stream:
    """One connection at either end, read by whole heads and bodies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, count: int) -> bytes:
        return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        assert await self.exactly(2) == b"\r\n"
        return body

    async def answer(self) -> tuple[bytes, bytes]:
        """A head and its body, by Content-Length or chunks."""
        head = await self.head()
        if match := re.search(rb"(?i)content-length: (\d+)", head):
            return head, await self.exactly(int(match[1]))
        return head, await self.chunks() if b"chunked" in head.lower() else b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Upstreams:
    """A raw upstream: hands out its accepted connections in order."""

    port: int = 0
    accepted: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def next(self) -> Stream:
        return await self.accepted.get()


@dataclass
class Gate:
    port: int
    pass_through: PassThrough
    clients: list[Stream] = field(default_factory=list)

    async def connect(self) -> Stream:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(stream)
        return stream

    async def ask(self, request: bytes) -> Stream:
        client = await self.connect()
        client.send(request)
        return client


@asynccontextmanager
async def gate_to(upstream: Upstream, **options: object) -> AsyncIterator[Gate]:
    target = options.pop("target", None)
    passing = PassThrough(upstream, **options)
    server = http_server(
        lambda request: passing.handle(request, target),
        keepalive_s=30,
        max_line_bytes=16384,
        max_field_bytes=16384,
        max_headers=128,
    )
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    gate = Gate(listener.sockets[0].getsockname()[1], passing)
    try:
        yield gate
    finally:
        listener.close()
        for client in gate.clients:
            client.writer.close()
        await server.shutdown(1)
        await passing.close()


@asynccontextmanager
async def raw_upstream(**listen: object) -> AsyncIterator[Upstreams]:
    found = Upstreams()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        found.accepted.put_nowait(Stream(reader, writer))

    opened: list[asyncio.StreamWriter] = []
    if path := listen.pop("path", None):
        server = await asyncio.start_unix_server(accept, path)
    else:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, **listen)
        found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for writer in opened:
            writer.close()


def with_raw_upstream(
    run: Callable[[Awaitable[None]], None],
    scene: Callable[[Gate, Upstreams], Awaitable[None]],
    **options: object,
) -> None:
    async def main() -> None:
        async with raw_upstream() as up, gate_to(Upstream("http", "127.0.0.1", up.port), **options) as gate:
            await scene(gate, up)

    run(main())


def body_of(answer: bytes) -> dict[str, object]:
    return json.loads(answer)


# --- the head of a request ---


def test_a_request_reaches_the_upstream_byte_for_byte_but_for_hop_by_hop_fields(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(
            b"GET /a HTTP/1.1\r\nx-First: 1\r\nHOST: example.com\r\n"
            b"Cookie: a=1\r\nCookie: b=\xe4\r\ncookie: c\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nAuthorization: Basic eA==\r\n\r\n"
        )
        upstream = await up.next()
        assert await upstream.head() == (
            b"GET /a HTTP/1.1\r\nx-First: 1\r\nHOST: example.com\r\n"
            b"Cookie: a=1\r\nCookie: b=\xe4\r\ncookie: c\r\n"
            b"Authorization: Basic eA==\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
            b"X-Forwarded-Host: example.com\r\n\r\n"
        )

    with_raw_upstream(run, scene)


TARGETS = [
    b"/",
    b"//double//slash",
    b"/./dot/../dots/.",
    b"/a%2Fb%2f%7e%41%",
    b"/semi;colon=1;x",
    b"/empty?",
    b"/two?a=1?b=2&&c",
    b"/q?x=%zz+%20'\"<>{}|\\^`",
    b"/%C3%BC/%E6%97%A5?%ff=%e4",
    b"/fragment#x?y",
    b"/@:!$&()*+,=",
]


@pytest.mark.parametrize("target", TARGETS)
def test_path_and_query_pass_byte_for_byte(run, target):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        line = (await (await up.next()).head()).split(b"\r\n")[0]
        assert line == b"GET " + target + b" HTTP/1.1"

    with_raw_upstream(run, scene)


@pytest.mark.parametrize("target", ["/ü".encode(), b"/\xe4", "/?ü".encode()])
def test_a_target_with_raw_bytes_beyond_ascii_is_refused_as_the_url_syntax_has_it(run, target):
    """The limit of aiohttp's parser, not ours: RFC 3986 knows such bytes as percent-encodings only."""

    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.0 400 ")
        assert up.accepted.empty()

    with_raw_upstream(run, scene)


def test_absolute_form_goes_on_in_origin_form_with_the_host_that_it_names(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"GET http://real.example:81/a//b?c HTTP/1.1\r\nHost: fake\r\n\r\n")
        head = await (await up.next()).head()
        assert head.startswith(b"GET /a//b?c HTTP/1.1\r\nHost: real.example:81\r\n")
        assert b"X-Forwarded-Host: real.example:81\r\n" in head

    with_raw_upstream(run, scene)


def test_options_asterisk_passes(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await (await up.next()).head()).startswith(b"OPTIONS * HTTP/1.1\r\n")

    with_raw_upstream(run, scene)


def test_a_route_may_give_another_target(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"GET /old HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await (await up.next()).head()).startswith(b"GET /new?x HTTP/1.1\r\n")

    with_raw_upstream(run, scene, target="/new?x")


def test_http_1_0_without_host_gets_the_host_of_the_upstream(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"GET / HTTP/1.0\r\n\r\n")
        head = await (await up.next()).head()
        assert head.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % up.port)

    with_raw_upstream(run, scene)


# --- the head of a response ---


def test_a_response_reaches_the_client_byte_for_byte_and_nothing_is_added(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(
            b"HTTP/1.1 299 Odd \xe4 Reason\r\nset-cookie: a=1; Path=/\r\nSet-Cookie: b=\xe4\r\nX-Empty:\r\n"
            b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\ncontent-Length: 3\r\n\r\nabc"
        )
        assert await client.head() == (
            b"HTTP/1.1 299 Odd \xe4 Reason\r\nset-cookie: a=1; Path=/\r\nSet-Cookie: b=\xe4\r\nX-Empty: \r\n"
            b"content-Length: 3\r\n\r\n"
        )
        assert await client.exactly(3) == b"abc"

    with_raw_upstream(run, scene)


def test_a_status_line_without_reason_stays_without(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"

    with_raw_upstream(run, scene)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 77\r\n\r\n'),
    ],
)
def test_answers_without_a_body_keep_their_fields_and_the_connection(run, method, answer):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(method + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        for _ in range(2):
            await upstream.head()
            upstream.send(answer)
            assert await client.head() == answer
            client.send(method + b" / HTTP/1.1\r\nHost: h\r\n\r\n")

    with_raw_upstream(run, scene)


def test_an_answer_to_head_without_a_length_gets_none(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(2):
            upstream = await up.next()  # aiohttp does not pool the connection of such an answer
            await upstream.head()
            upstream.send(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"
            client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")

    with_raw_upstream(run, scene)


@pytest.mark.parametrize(
    ("asked", "options"), [(b"", b"Upgrade"), (b"Connection: close\r\n", b"Upgrade, close")]
)
def test_a_426_names_the_protocol_that_it_asks_for(run, asked, options):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n" + asked + b"\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        assert await client.head() == (
            b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nUpgrade: websocket\r\n"
            b"Connection: " + options + b"\r\n\r\n"
        )

    with_raw_upstream(run, scene)


def test_a_redirect_is_passed_on_and_not_followed(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        assert (
            await client.head() == b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
        )

    with_raw_upstream(run, scene)


def test_cookies_of_one_client_do_not_reach_another(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: secret=1\r\nContent-Length: 0\r\n\r\n")
        await client.head()
        await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"secret" not in await upstream.head()

    with_raw_upstream(run, scene)


# --- bodies ---


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE", b"GET", b"OPTIONS", b"PROPFIND"])
def test_a_body_with_a_length_passes_with_its_length_whatever_the_method(run, method):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(method + b" / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        upstream = await up.next()
        head = await upstream.head()
        assert head.startswith(method + b" / HTTP/1.1\r\n")
        assert b"Content-Length: 5\r\n" in head
        assert b"Transfer-Encoding" not in head
        assert await upstream.exactly(5) == b"hello"
        upstream.send(OK)
        assert (await client.answer())[1] == b"ok"

    with_raw_upstream(run, scene)


def test_a_chunked_body_passes_chunked(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n"
        )
        upstream = await up.next()
        assert b"Transfer-Encoding: chunked\r\n" in await upstream.head()
        assert await upstream.exactly(8) == b"3\r\nabc\r\n"
        client.send(b"2;ext=1\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n")
        assert await upstream.chunks() == b"de"
        upstream.send(OK)
        assert (await client.answer())[1] == b"ok"

    with_raw_upstream(run, scene)


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 0\r\n"])
def test_a_post_without_a_body_is_framed_as_it_came(run, fields):
    async def scene(gate: Gate, up: Upstreams) -> None:
        await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")
        head = await (await up.next()).head()
        assert head.count(b"Content-Length") == bool(fields)
        assert b"Transfer-Encoding" not in head

    with_raw_upstream(run, scene)


def test_compressed_bodies_pass_compressed_both_ways(run):
    packed = gzip.compress(b"x" * 1000)

    async def scene(gate: Gate, up: Upstreams) -> None:
        fields = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\n" + fields + packed)
        upstream = await up.next()
        await upstream.head()
        assert await upstream.exactly(len(packed)) == packed
        upstream.send(b"HTTP/1.1 200 OK\r\n" + fields + packed)
        assert await client.head() == b"HTTP/1.1 200 OK\r\n" + fields
        assert await client.exactly(len(packed)) == packed

    with_raw_upstream(run, scene)


def test_server_sent_events_arrive_one_by_one_as_they_are_sent(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert await client.head() == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            upstream.send(b"9\r\ndata: %d\n\n\r\n" % number)
            assert await client.exactly(14) == b"9\r\ndata: %d\n\n\r\n" % number

    with_raw_upstream(run, scene)


def test_an_event_stream_may_be_silent_for_longer_than_the_response_timeout(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await client.head()
        late = await gate.ask(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")  # asked later, timed out sooner
        assert (await late.head()).startswith(b"HTTP/1.1 504 ")
        upstream.send(b"1\r\nb\r\n0\r\n\r\n")
        assert await client.chunks() == b"ab"

    with_raw_upstream(run, scene, response_timeout_s=0.2)


def test_a_body_that_ends_with_the_connection_is_chunked_for_the_client(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        upstream.writer.close()
        head, body = await client.answer()
        assert head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert body == b"until the end"

    with_raw_upstream(run, scene)


def test_a_chunked_answer_to_http_1_0_ends_with_the_connection(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert await client.rest() == b"HTTP/1.0 200 OK\r\n\r\nabc"

    with_raw_upstream(run, scene)


def test_http_1_0_keep_alive_is_granted_when_the_length_is_known(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(OK)
        head, _ = await client.answer()
        assert head == b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"

    with_raw_upstream(run, scene)


def test_a_slow_client_holds_the_upstream_back(run):
    total = 64 * 1024 * 1024

    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.connect()
        client.writer.transport.pause_reading()
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        sent = 0
        drained = True
        while drained and sent < total:
            upstream.send(bytes(1024 * 1024))
            sent += 1024 * 1024
            try:
                # The time in which a gate without backpressure would take a MiB many times over.
                await asyncio.wait_for(upstream.writer.drain(), 0.5)
            except TimeoutError:
                drained = False
        assert sent < total
        client.writer.transport.resume_reading()
        await client.head()
        assert len(await client.exactly(sent)) == sent

    with_raw_upstream(run, scene)


def test_a_slow_upstream_holds_the_client_back(run):
    total = 64 * 1024 * 1024

    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % total)
        upstream = await up.next()
        upstream.writer.transport.pause_reading()
        sent = 0
        drained = True
        while drained and sent < total:
            client.send(bytes(1024 * 1024))
            sent += 1024 * 1024
            try:
                await asyncio.wait_for(client.writer.drain(), 0.5)
            except TimeoutError:
                drained = False
        assert sent < total
        upstream.writer.transport.resume_reading()
        await upstream.head()
        assert len(await upstream.exactly(sent)) == sent

    with_raw_upstream(run, scene)


def test_bodies_stream_in_both_directions_at_once(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        for _ in range(3):
            client.send(b"4\r\nping\r\n")
            assert await upstream.exactly(9) == b"4\r\nping\r\n"
            upstream.send(b"4\r\npong\r\n")
            assert await client.exactly(9) == b"4\r\npong\r\n"
        client.send(b"0\r\n\r\n")
        assert await upstream.chunks() == b""
        upstream.send(b"0\r\n\r\n")
        assert await client.chunks() == b""

    with_raw_upstream(run, scene)


def test_an_answer_may_come_before_the_body_is_sent_and_the_connection_stays_in_step(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf.")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert body == b"big"
        client.send(b"half.GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
        second = await up.next()  # the upload was broken off, so its connection is not used again
        assert (await second.head()).startswith(b"GET /next ")
        second.send(OK)
        assert (await client.answer())[1] == b"ok"

    with_raw_upstream(run, scene)


# --- Expect ---

EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


def test_the_expectation_reaches_the_upstream_and_its_100_the_client(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        assert b"Expect: 100-continue\r\n" in await upstream.head()
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert await upstream.exactly(5) == b"hello"
        upstream.send(OK)
        assert await client.answer() == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")

    with_raw_upstream(run, scene)


def test_an_upstream_that_ignores_the_expectation_gets_the_body_all_the_same(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        await upstream.head()
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert await upstream.exactly(5) == b"hello"

    with_raw_upstream(run, scene)


def test_a_refused_expectation_is_passed_on_without_100_and_ends_the_connection(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        head, body = await client.answer()
        assert head == b"HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        assert body == b"no"
        client.send(b"hello")
        assert await client.rest() == b""

    with_raw_upstream(run, scene)


# --- interim responses ---

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def test_interim_responses_reach_the_client_when_they_come(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        for _ in range(2):
            await upstream.head()
            upstream.send(b"HTTP/1.1 103 Early \xe4\r\nlink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 103 Early \xe4\r\nlink: </a>\r\n\r\n"
            upstream.send(HINTS + OK)
            assert await client.head() == HINTS
            assert (await client.answer())[1] == b"ok"
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")

    with_raw_upstream(run, scene)


def test_hints_are_no_100_for_a_client_that_waits_to_be_asked(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        await upstream.head()
        upstream.send(HINTS + b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        assert await client.head() == HINTS
        assert (await client.head()).startswith(b"HTTP/1.1 401 No\r\n")

    with_raw_upstream(run, scene)


def test_a_client_that_does_not_wait_to_be_asked_is_not_asked(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        await upstream.head()
        client.send(b"hel")
        assert await upstream.exactly(3) == b"hel"
        client.send(b"lo")
        assert await upstream.exactly(2) == b"lo"
        upstream.send(OK)
        assert await client.answer() == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")

    with_raw_upstream(run, scene)


def test_the_upstreams_100_is_dropped_when_the_gate_has_asked_already(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(EXPECTING)
        upstream = await up.next()
        await upstream.head()
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS)
        assert await client.head() == HINTS
        client.send(b"hello")
        assert await upstream.exactly(5) == b"hello"

    with_raw_upstream(run, scene)


def test_the_response_timeout_goes_on_after_an_interim_response(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(HINTS)
        assert await client.head() == HINTS
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")

    with_raw_upstream(run, scene, response_timeout_s=0.2)


def test_an_upload_may_take_longer_than_the_response_timeout_after_an_interim_response(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        upstream = await up.next()
        await upstream.head()
        upstream.send(HINTS)
        assert await client.head() == HINTS
        late = await gate.ask(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")  # asked later, timed out sooner
        assert (await late.head()).startswith(b"HTTP/1.1 504 ")
        client.send(b"cd")
        assert await upstream.exactly(4) == b"abcd"
        upstream.send(OK)
        assert (await client.answer())[1] == b"ok"

    with_raw_upstream(run, scene, response_timeout_s=0.2)


def test_an_interim_response_that_could_be_read_in_two_ways_is_not_passed_on(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 103 Early\r\nX: a\x01b\r\n\r\n" + OK)
        assert (await client.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")

    with_raw_upstream(run, scene)


# --- ends that are none ---


def test_a_client_that_leaves_while_it_waits_takes_the_upstream_request_with_it(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        client.writer.close()
        assert await upstream.rest() == b""

    with_raw_upstream(run, scene)


def test_a_client_that_leaves_a_silent_event_stream_takes_the_upstream_with_it(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        client.reset()
        assert await upstream.rest() == b""

    with_raw_upstream(run, scene)


def test_a_client_that_leaves_inside_its_body_leaves_the_upstream_an_incomplete_one(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        upstream = await up.next()
        await upstream.head()
        await upstream.exactly(8)
        client.writer.close()
        assert await upstream.rest() == b""  # no last chunk

    with_raw_upstream(run, scene)


CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("broken", [b"zz\r\n", b"3\r\nabcXX", b"-1\r\n", b"0\r\nX Y: 1\r\n\r\n"])
def test_a_body_whose_framing_breaks_ends_with_400_and_an_incomplete_one_upstream(run, broken, caplog):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(CHUNKED_POST + b"3\r\nabc\r\n")
        upstream = await up.next()
        await upstream.head()
        assert await upstream.exactly(8) == b"3\r\nabc\r\n"
        client.send(broken)
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 400 ")
        assert body_of(body)["title"] == "Bad request body"
        assert await client.rest() == b""
        assert not (await upstream.rest()).endswith(b"0\r\n\r\n")

    with_raw_upstream(run, scene)
    assert "Traceback" not in caplog.text


def test_a_body_whose_framing_breaks_under_its_answer_cuts_the_answer(run, caplog):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(CHUNKED_POST)
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await client.head()
        assert await client.exactly(7) == b"2\r\nhi\r\n"
        client.send(b"zz\r\n")
        assert await client.rest() == b""
        assert await upstream.rest() == b""

    with_raw_upstream(run, scene)
    assert "Traceback" not in caplog.text


def test_a_body_whose_framing_breaks_before_its_turn_never_ends_upstream(run, caplog):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
        first = await up.next()
        await first.head()
        client.send(CHUNKED_POST)
        await gate_has_read(gate, up)
        client.send(b"zz\r\n")
        await gate_has_read(gate, up)
        first.send(OK)
        assert (await client.answer())[1] == b"ok"
        head, _ = await client.answer()
        assert head.startswith(b"HTTP/1.1 400 ")
        assert await client.rest() == b""

    with_raw_upstream(run, scene)
    assert "Traceback" not in caplog.text


async def gate_has_read(gate: Gate, up: Upstreams) -> None:
    """Come back when the gate has served another client from end to end, and so read what was sent before."""
    other = await gate.ask(b"GET /other HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    upstream = await up.next()
    await upstream.head()
    upstream.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await other.rest()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    ("framing", "sent", "seen"),
    [
        (b"Content-Length: 10\r\n", b"half.", b"half."),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhalf.\r\n", b"5\r\nhalf.\r\n"),
    ],
)
def test_a_body_that_the_upstream_breaks_off_is_broken_off_for_the_client(run, framing, sent, seen, hard):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + sent)
        assert await client.head() == b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
        assert await client.exactly(len(seen)) == seen
        upstream.reset() if hard else upstream.writer.close()
        assert await client.rest() == b""

    with_raw_upstream(run, scene)


def test_a_reset_inside_a_body_without_a_length_is_no_end(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf.")
        await client.head()
        assert await client.exactly(10) == b"5\r\nhalf.\r\n"
        upstream.reset()
        assert await client.rest() == b""

    with_raw_upstream(run, scene)


def test_a_client_without_framing_sees_a_reset_for_a_broken_body(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.0\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf.\r\n")
        await client.head()
        assert await client.exactly(5) == b"half."
        upstream.writer.close()
        with pytest.raises(ConnectionResetError):
            await client.rest()

    with_raw_upstream(run, scene)


# --- pooled connections ---


def test_connections_to_the_upstream_are_used_again(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        for path in (b"/2", b"/3"):
            await upstream.head()
            upstream.send(OK)
            await client.answer()
            client.send(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await upstream.head()).startswith(b"GET /3 ")
        assert up.accepted.empty()

    with_raw_upstream(run, scene)


@pytest.mark.parametrize("hard", [False, True])
def test_a_safe_request_that_met_a_stale_connection_is_sent_once_more(run, hard):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        stale = await up.next()
        await stale.head()
        stale.reset() if hard else stale.writer.close()
        fresh = await up.next()
        assert (await fresh.head()).startswith(b"GET / ")
        fresh.send(OK)
        assert (await client.answer())[1] == b"ok"

    with_raw_upstream(run, scene)


def test_a_safe_request_is_not_sent_a_third_time(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(2):
            upstream = await up.next()
            await upstream.head()
            upstream.writer.close()
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        assert up.accepted.empty()

    with_raw_upstream(run, scene)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_no_other_request_is_sent_twice(run, request_bytes):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(request_bytes)
        upstream = await up.next()
        await upstream.head()
        upstream.writer.close()
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 502 ")
        assert body_of(body)["title"] == "Upstream closed the connection before it answered"
        assert up.accepted.empty()

    with_raw_upstream(run, scene)


# --- errors ---


def test_a_refused_connection_is_502(run):
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with gate_to(Upstream("http", "127.0.0.1", port)) as gate:
            client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            head, body = await client.answer()
            assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/problem+json\r\n")
            assert b"aiohttp" not in head
            assert body_of(body) == {"title": "Upstream cannot be reached", "status": 502}
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await client.answer())[0].startswith(b"HTTP/1.1 502 ")

    run(main())


def test_a_name_that_does_not_resolve_is_502(run):
    async def main() -> None:
        async with gate_to(Upstream("http", "nowhere.invalid", 80)) as gate:
            client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 502 ")

    run(main())


def test_an_upstream_that_does_not_answer_in_time_is_504(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        upstream = await up.next()
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert body_of(body)["title"] == "Upstream did not answer in time"
        await upstream.head()
        assert await upstream.rest() == b"hi"  # and then its connection was closed

    with_raw_upstream(run, scene, response_timeout_s=0.05)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_cannot_be_passed_on_is_502(run, answer):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await up.next()
        await upstream.head()
        upstream.send(answer)
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 502 ")
        assert body_of(body)["title"] == "Upstream did not answer in HTTP"

    with_raw_upstream(run, scene)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", b"405"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
    ],
)
def test_a_request_that_cannot_be_passed_on_is_refused_and_the_connection_ends(run, head, status):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(head)
        answer, _ = await client.answer()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close\r\n" in answer
        assert await client.rest() == b""
        assert up.accepted.empty()

    with_raw_upstream(run, scene)


# --- upgrades that are none ---


def test_an_upgrade_on_an_ordinary_request_is_dropped_and_what_follows_still_served(run):
    async def scene(gate: Gate, up: Upstreams) -> None:
        client = await gate.ask(
            b"POST /1 HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Content-Length: 2\r\n\r\nhi"
            b"GET /2 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n"
        )
        upstream = await up.next()
        head = await upstream.head()
        assert b"pgrade" not in head
        assert await upstream.exactly(2) == b"hi"
        upstream.send(OK)
        for path in (b"/2", b"/3"):
            head = await upstream.head()
            assert head.startswith(b"GET " + path + b" ")
            assert b"pgrade" not in head
            upstream.send(OK)
        for _ in range(3):
            assert (await client.answer())[1] == b"ok"
        client.send(b"GET /4 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await upstream.head()).startswith(b"GET /4 ")

    with_raw_upstream(run, scene)


# --- ways to reach an upstream ---


def test_an_upstream_behind_a_unix_socket_is_reached(run, tmp_path):
    async def main() -> None:
        path = str(tmp_path / "up.sock")
        async with raw_upstream(path=path) as up, gate_to(parse_upstream(f"unix:{path}")) as gate:
            client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            upstream = await up.next()
            assert b"Host: h\r\n" in await upstream.head()
            upstream.send(OK)
            assert (await client.answer())[1] == b"ok"

    run(main())


@pytest.mark.parametrize(
    ("trusted", "name", "status"),
    [(True, "backend.test", b"200"), (True, "other.test", b"502"), (False, "backend.test", b"502")],
)
def test_an_upstream_behind_tls_is_checked_by_authority_and_name(run, tmp_path, trusted, name, status):
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("backend.test").configure_cert(context)

    async def main() -> None:
        async with raw_upstream(ssl=context) as up:
            tls = upstream_tls(ca_file=str(ca_file))
            where = Upstream("https", "127.0.0.1", up.port)
            async with gate_to(where, tls=tls, server_name=name) as gate:
                client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                if status == b"200":
                    upstream = await up.next()
                    await upstream.head()
                    upstream.send(OK)
                head, _ = await client.answer()
                assert head.startswith(b"HTTP/1.1 " + status)

    run(main())


def test_a_certificate_may_go_unchecked_when_told_so(run):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("backend.test").configure_cert(context)

    async def main() -> None:
        async with raw_upstream(ssl=context) as up:
            where = Upstream("https", "127.0.0.1", up.port)
            async with gate_to(where, tls=upstream_tls(verify=False)) as gate:
                client = await gate.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                upstream = await up.next()
                await upstream.head()
                upstream.send(OK)
                assert (await client.answer())[1] == b"ok"

    run(main())


def test_a_bad_ca_file_is_an_os_error_at_once(tmp_path):
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(OSError, match=r"."):
        upstream_tls(ca_file=str(tmp_path / "bad.pem"))
    with pytest.raises(OSError, match=r"."):
        upstream_tls(ca_file=str(tmp_path / "missing.pem"))


def test_an_ordinary_application_is_served_to_an_ordinary_client(run):
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), headers={"X-Method": request.method})

    async def main() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/echo", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        payload = bytes(range(256)) * 4000  # just short of what aiohttp warns about
        async with gate_to(Upstream("http", "127.0.0.1", port)) as gate, aiohttp.ClientSession() as session:
            answers = await asyncio.gather(
                *(session.post(f"http://127.0.0.1:{gate.port}/echo", data=payload) for _ in range(8))
            )
            for answer in answers:
                assert await answer.read() == payload
                assert answer.headers["X-Method"] == "POST"
        await runner.cleanup()

    run(main())


# --- canaries: what of aiohttp we stand on beyond its documentation ---


def test_canary_aiohttp_calls_send_of_the_request_class_after_the_middlewares(run):
    calls: list[str] = []

    class Probe(aiohttp.ClientRequest):
        async def send(self, conn):
            calls.append("send")
            return await super().send(conn)

    async def middleware(request, handler):
        calls.append(type(request).__name__)
        return await handler(request)

    async def main() -> None:
        async with raw_upstream() as up, aiohttp.ClientSession(request_class=Probe) as session:
            url = f"http://127.0.0.1:{up.port}/"
            asking = asyncio.create_task(session.get(url, middlewares=(middleware,)))
            upstream = await up.next()
            await upstream.head()
            upstream.send(OK)
            await (await asking).read()

    run(main())
    assert calls == ["Probe", "send"]


def test_canary_a_reset_leaves_its_error_on_the_protocol_of_a_body_without_length(run):
    async def main() -> None:
        async with raw_upstream() as up, aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.get(f"http://127.0.0.1:{up.port}/"))
            upstream = await up.next()
            await upstream.head()
            upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf.")
            response = await asking
            protocol = response.connection.protocol
            assert await response.content.readany() == b"half."
            upstream.reset()
            assert await response.content.read() == b""  # aiohttp calls it whole
            assert isinstance(protocol.exception(), aiohttp.ClientOSError)

    run(main())


def test_canary_start_timeout_without_a_read_timeout_ends_the_running_timer(run):
    async def main() -> None:
        async with raw_upstream() as up, aiohttp.ClientSession() as session:
            timeout = aiohttp.ClientTimeout(sock_read=60)
            asking = asyncio.create_task(session.get(f"http://127.0.0.1:{up.port}/", timeout=timeout))
            upstream = await up.next()
            await upstream.head()
            upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            response = await asking
            protocol = response.connection.protocol
            assert protocol._read_timeout_handle is not None
            protocol.read_timeout = None
            protocol.start_timeout()
            assert protocol._read_timeout_handle is None
            response.close()

    run(main())
