"""Taking the byte stream over from aiohttp, and giving it back. Nothing else touches aiohttp's internals.

aiohttp reads the upgrade request and the upgrade response for us. Then its protocol object is replaced on the
transport by one of ours, without an `await` in between, so that no byte can fall between the two. What it
had already read behind the head is handed over as `tail`. All of this is undocumented: the dependency is
pinned to the minor version, and tests/edge/test_canaries.py has a test for each behaviour relied upon.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import ClientPayloadError, web
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.edge.acked import unacked
from proxy.edge.problem import problem

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

    from proxy.edge.room import Room

_HEAD_LIMIT: Final = 65536
_SWITCHING_PROTOCOLS: Final = 101


class _TailCollector:
    """Stands where aiohttp expects a WebSocket reader, and gets what it read behind the head."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.tail += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing to do: the end of a connection is told by the transport."""


class Inbound:
    """A client's connection, taken over from aiohttp's server.

    Make it from the upgrade request; `transport` is None when the client is gone already. Afterwards either
    `give_back` (aiohttp answers the request after all) or `forget` (the connection is ours for good).
    """

    __slots__ = ("_protocol", "tail", "transport")

    def __init__(self, request: web.BaseRequest, ours: asyncio.Protocol) -> None:
        protocol: RequestHandler = request.protocol
        collector = _TailCollector()
        protocol.set_parser(collector)  # type: ignore[arg-type] # it only calls feed_data and feed_eof
        self.tail = collector.tail
        self.transport = protocol.transport
        self._protocol = protocol
        if isinstance(protocol, HeadDeadline):
            protocol.taken_over()
        if self.transport is not None:
            self.transport.set_protocol(ours)

    @property
    def writing_paused(self) -> bool:
        """Whether the transport was over its high watermark when it was taken over."""
        return self._protocol.writing_paused

    def give_back(self) -> None:
        """Let aiohttp have the connection again, to answer the request; it must be closed after that."""
        if self.transport is not None:
            self.transport.set_protocol(self._protocol)

    def forget(self) -> None:
        """Make aiohttp forget the connection: it takes it for lost, and lets go of all it keeps for it."""
        self._protocol.transport = None
        self._protocol.connection_lost(None)


class TakenOver(web.StreamResponse):
    """What a handler returns for a connection that is aiohttp's no more: nothing is made of it, or sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


class UpstreamProtocol(ResponseHandler):
    """aiohttp's client protocol, which tells the reader of a body that the body is broken.

    Its own forgets the body when what comes cannot be parsed: whoever reads it would wait for ever.
    """

    def set_exception(self, exc: type[BaseException] | BaseException, *cause: BaseException) -> None:
        """Fail; and let the body that is under way fail."""
        body = self._payload
        super().set_exception(exc, *cause)  # type: ignore[arg-type] # passed on as it came
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(ClientPayloadError("the response cannot be read"))


class Outbound:
    """A connection to the upstream on which aiohttp reads one response head.

    `asyncio` connects it (it is the protocol factory's product); then `exchange` sends a request.
    """

    __slots__ = ("_protocol", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._protocol = UpstreamProtocol(loop)
        self.transport: asyncio.Transport | None = None

    @property
    def protocol(self) -> asyncio.Protocol:
        """What to connect."""
        return self._protocol

    async def exchange(self, head: bytes) -> tuple[RawResponseMessage, StreamReader]:
        """Write a request head; return the response's head and body.

        Raise `aiohttp.ClientError`, `aiohttp.http.HttpProcessingError` or OSError if none comes.
        """
        protocol = self._protocol
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_HEAD_LIMIT,
            max_field_size=_HEAD_LIMIT,
        )
        self.transport = protocol.transport
        assert self.transport is not None
        self.transport.write(head)
        while True:
            message, body = await protocol.read()
            # RFC 9110 15.2: "A client MUST be able to parse one or more 1xx responses received prior to a
            # final response". 101 is the final one here.
            if message.code not in range(100, 200) or message.code == _SWITCHING_PROTOCOLS:
                return message, body

    def hand_over(self, ours: asyncio.Protocol) -> tuple[bytes, bool]:
        """Put `ours` in aiohttp's place. Return what came behind the 101, and whether the connection is over.

        If it is, aiohttp has had the `connection_lost` that nobody else will get.
        """
        collector = _TailCollector()
        protocol = self._protocol
        over = protocol.transport is None
        protocol.set_parser(collector, None)
        assert self.transport is not None
        self.transport.set_protocol(ours)
        protocol.transport = None
        protocol._parser = None  # noqa: SLF001 - a circle, which would wait for the garbage collector
        return collector.tail, over

    def abort(self) -> None:
        """End the connection at once."""
        transport = self._protocol.transport or self.transport
        if transport is not None:
            transport.abort()


class HeadDeadline(RequestHandler):
    """aiohttp's server protocol with a deadline for request heads, and one for clients that take nothing.

    The first is armed when bytes of a request begin to come (or the connection is made), ended when the
    request is whole. A slow one gets a 408 and is closed (RFC 9110 15.5.9). The second runs while what was
    written waits for the client; a client that has taken none of it by then is reset.
    """

    __slots__ = ("_deadline", "_deadline_s", "_room", "_taking", "_taking_s", "_untaken")

    def __init__(
        self,
        *args: object,
        deadline_s: float,
        taking_s: float | None = None,
        room: Room | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type] # passed on as web.Server gives them
        self._deadline_s = deadline_s
        self._deadline: asyncio.TimerHandle | None = None
        self._taking_s = taking_s
        self._taking: asyncio.TimerHandle | None = None
        self._untaken = 0
        self._room = room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._arm()
        if self._room is not None:
            self._room.came(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes; while they make no whole request, the deadline runs."""
        super().data_received(data)
        if self._messages and isinstance(error := self._messages[-1][0], _ErrInfo):
            error.exc.__traceback__ = None  # it leads back to the error: a circle
        if self._messages or self._request_in_progress or self._payload_parser is not None:
            self._disarm()
        elif self._deadline is None and data and self._current_request is None:
            self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        self._disarm()
        self._taken()
        if self._room is not None:
            self._room.went(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the client its time to take something of what waits for it."""
        super().pause_writing()
        if self._taking_s is not None and self.transport is not None:
            self._untaken = unacked(self.transport) or 0
            self._taking = self._loop.call_later(self._taking_s, self._takes)

    def resume_writing(self) -> None:
        """Stop waiting for the client to take something."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _takes(self) -> None:
        """Look whether the client has taken anything; a slow reader is left alone."""
        self._taking = None
        if self.transport is None or self._taking_s is None:
            return
        untaken = unacked(self.transport)
        if untaken is not None and untaken < self._untaken:
            self._untaken = untaken
            self._taking = self._loop.call_later(self._taking_s, self._takes)
            return
        self.logger.warning("response not taken", extra={"fields": {"client_address": _host(self.peername)}})
        self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self._loop.call_later(self._deadline_s, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if self.transport is None or self._request_in_progress or self._messages:
            return
        self.logger.warning(
            "request head too slow", extra={"fields": {"client_address": _host(self.peername)}}
        )
        self.transport.write(
            b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n"
            b'Content-Length: 43\r\nConnection: close\r\n\r\n{"title": "Request Timeout", "status": 408}'
        )
        self.force_close()

    def head_arrived(self) -> None:
        """Stop waiting: a request is being served."""
        self._disarm()
        if self._room is not None:
            self._room.asking(self)

    def answered(self) -> None:
        """Wait for the next request."""
        if self._room is not None:
            self._room.waits(self)

    def taken_over(self) -> None:
        """Count no more: it is a session's connection now."""
        if self._room is not None:
            self._room.went(self)

    async def taken(self) -> None:
        """Wait until the client has taken enough of earlier answers. Raise ConnectionError if it is gone."""
        if self._paused:
            await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes what was sent
    ) -> web.StreamResponse:
        """Answer what is no request, or what broke on our side: a problem document, and the end."""
        if isinstance(exc, ConnectionError) and (self.transport is None or self.transport.is_closing()):
            raise exc  # the client went while it was answered: nobody is to blame, and nobody listens
        self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response is under way already")
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        response = problem(status, HTTPStatus(status).phrase)
        response.force_close()
        return response


def with_head_deadline(
    server: web.Server, deadline_s: float, taking_s: float | None = None, room: Room | None = None
) -> Callable[[], HeadDeadline]:
    """Return the protocol factory for `loop.create_server`: the server's own, with deadlines."""
    return partial(
        HeadDeadline,
        server,
        loop=server._loop,  # noqa: SLF001
        deadline_s=deadline_s,
        taking_s=taking_s,
        room=room,
        **server._kwargs,  # noqa: SLF001
    )


async def head_arrived(request: web.BaseRequest) -> None:
    """Tell the deadline that this request's head is whole. Call it first in the handler.

    aiohttp answers pipelined requests whether or not the client takes the answers, and holds what it does not
    take: this waits for it. Raise ConnectionError when the client is gone.
    """
    if isinstance(request.protocol, HeadDeadline):
        request.protocol.head_arrived()
        await request.protocol.taken()


def answered(request: web.BaseRequest) -> None:
    """Tell that this request has been answered. Call it last."""
    if isinstance(request.protocol, HeadDeadline):
        request.protocol.answered()


def _host(peername: object) -> str:
    return str(peername[0]) if isinstance(peername, tuple) and peername else ""
