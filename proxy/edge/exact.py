"""Requests and responses whose heads aiohttp writes byte for byte as we give them.

aiohttp's own serialiser takes text, drops bytes that are no UTF-8, moves Host to the front, rewrites the
path's quoting and adds fields (`Date`, `Server`, `Content-Type`, `User-Agent`, `Accept`). A proxy may do none
of that.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import ClientRequest, ClientResponse, web
from aiohttp.http import HttpVersion11, StreamWriter

from proxy.edge.headers import Pair, first, serialize
from proxy.edge.takeover import UpstreamProtocol

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

ClientHandler = Callable[[ClientRequest], Awaitable[ClientResponse]]
Middleware = Callable[[ClientRequest, ClientHandler], Awaitable[ClientResponse]]

_NO_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Head:
    """What goes out in place of aiohttp's request head.

    `wire` is the head with its empty line. `chunked` frames the body, if any. `interim` is called with each
    interim response (1xx) before the final one.
    """

    wire: bytes
    chunked: bool
    interim: Callable[[RawResponseMessage], None]


class InterimReader(UpstreamProtocol):
    """aiohttp's client protocol, less its habit of throwing interim responses (1xx) away.

    `expect` each request's before it is sent; 101 is a final one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim: Callable[[RawResponseMessage], None] | None = None
        self._upload: asyncio.Task[None] | None = None

    def expect(
        self, interim: Callable[[RawResponseMessage], None], upload: asyncio.Task[None] | None
    ) -> None:
        """Call `interim` for what comes before the final response. `upload` sends the request's body."""
        self._interim, self._upload = interim, upload

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a response head from the parser."""
        message, _ = data
        if 100 <= message.code < 200 and message.code != 101 and self._interim is not None:  # noqa: PLR2004
            self._interim(message)
            self._loop.call_soon(self._still_waiting)
            return
        self._interim = self._upload = None
        super().feed_data(data, size)

    def _still_waiting(self) -> None:
        """Go on waiting for the final response: aiohttp stops its timer after any head without a body."""
        if self._interim is not None and (self._upload is None or self._upload.done()):
            self.start_timeout()


class ExactRequest(ClientRequest):
    """A ClientRequest that sends its `exact_head`. Use it as `ClientSession(request_class=ExactRequest)`.

    The head is given by `middlewares=(exactly(head),)`. `send` is aiohttp's own (3.14.5), less the making of
    the head; it is not documented as a hook: tests/edge/test_http.py has the canaries.
    """

    exact_head: Head

    async def send(self, conn: Connection) -> ClientResponse:
        """Write the head, start to write the body, and return the response that `start()` will fill."""
        protocol = conn.protocol
        assert protocol is not None
        writer = StreamWriter(protocol, self.loop)
        writer.length = None
        await writer.write(self.exact_head.wire)
        if self.exact_head.chunked:
            writer.enable_chunking()
        task: asyncio.Task[None] | None = None
        if self.body:
            task = self._writer = asyncio.create_task(self.write_bytes(writer, conn))
        else:
            protocol.start_timeout()
        if isinstance(protocol, InterimReader):
            protocol.expect(self.exact_head.interim, task)
        response = self.response_class(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )
        self.response = response  # type: ignore[assignment] # declared as None
        return response


def exactly(head: Head) -> Middleware:
    """Return a client middleware that gives an ExactRequest its head."""

    async def give(request: ClientRequest, handler: ClientHandler) -> ClientResponse:
        assert isinstance(request, ExactRequest)
        request.exact_head = head
        return await handler(request)

    return give


class ExactResponse(web.StreamResponse):
    """A response to a client whose head is ours to the byte. `prepare`, `write`, `write_eof` as in aiohttp.

    Made of public parts only: it overrides the public methods and writes by `request.writer`. `pairs` are
    end-to-end fields. The body is framed by their Content-Length, else chunked, else (HTTP/1.0) by the end of
    the connection.
    """

    def __init__(self, status: int, reason: str, pairs: list[Pair]) -> None:
        super().__init__(status=status, reason=reason)
        self._pairs = pairs
        self._exact_writer: AbstractStreamWriter | None = None
        self._exact_transport: asyncio.Transport | None = None
        self._stays_open = True
        self._self_delimiting = True
        self._done = False

    @property
    def prepared(self) -> bool:
        """Whether the head is out."""
        return self._exact_writer is not None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request."""
        return self._stays_open

    @property
    def self_delimiting(self) -> bool:
        """Whether the client can tell a body that was cut from a whole one by its framing."""
        return self._self_delimiting

    @property
    def body_length(self) -> int:
        """Bytes written, framing included."""
        return 0 if self._exact_writer is None else self._exact_writer.output_size

    def force_close(self) -> None:
        """Close the connection after this response."""
        self._stays_open = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the head. Raise ValueError (and write nothing) if it has control characters."""
        if self._exact_writer is not None:
            return self._exact_writer
        framing, chunked = self._framing(request)
        version = "HTTP/1.1" if request.version >= HttpVersion11 else "HTTP/1.0"
        start_line = f"{version} {self.status} {self.reason}".encode("utf-8", "surrogateescape")
        wire = serialize(start_line, [*self._pairs, *framing])
        writer = request.writer
        self._exact_writer = writer
        self._exact_transport = request.transport
        writer.length = None
        await writer.write(wire)
        if chunked:
            writer.enable_chunking()
        return writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a part of the body; wait while the client is slow."""
        assert self._exact_writer is not None
        await self._exact_writer.write(data)

    async def write_eof(self, data: bytes = b"") -> None:
        """End the body."""
        if self._done:
            return
        assert self._exact_writer is not None
        self._done = True
        await self._exact_writer.write_eof(data)

    def cut(self) -> None:
        """End the connection inside the body, so that the client can tell."""
        self._done = True
        self._stays_open = False
        transport = self._exact_transport
        if transport is None:
            return
        if self._self_delimiting:
            transport.close()
        else:
            reset(transport)

    def _framing(self, request: web.BaseRequest) -> tuple[list[Pair], bool]:
        """Return the hop's own fields, and whether the body is chunked."""
        empty = request.method == "HEAD" or self.status in _NO_BODY
        sized = empty or first(self._pairs, b"content-length") is not None
        modern = request.version >= HttpVersion11
        self._self_delimiting = sized or modern
        self._stays_open = self._stays_open and request.keep_alive and self._self_delimiting
        framing: list[Pair] = [] if sized or not modern else [(b"Transfer-Encoding", b"chunked")]
        # RFC 9110 section 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option".
        options = [b"Upgrade"] if first(self._pairs, b"upgrade") is not None else []
        if modern and not self._stays_open:
            options.append(b"close")
        elif not modern and self._stays_open:
            options.append(b"keep-alive")
        if options:
            framing.append((b"Connection", b", ".join(options)))
        return framing, not sized and modern


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, which nobody takes for the end of a body. Unsent bytes are dropped."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
