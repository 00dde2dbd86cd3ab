"""Pass-through of what is not a WebSocket: streamed both ways, unchanged but for hop-by-hop fields."""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from aiohttp.helpers import set_exception
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from proxy.edge.exact import (
    ClientHandler,
    ExactRequest,
    ExactResponse,
    Head,
    InterimReader,
    Middleware,
    exactly,
)
from proxy.edge.exchange import BodyTooSlowError, Exchange
from proxy.edge.headers import (
    Pair,
    end_to_end,
    first,
    forwarded,
    of_response,
    origin_form,
    serialize,
    with_host,
    without_forwarded,
)
from proxy.edge.problem import problem
from proxy.guard import response_is_clear

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.edge.exchange import Complain
    from proxy.edge.upstream import Upstream

log = logging.getLogger("readygate.http")

# Below the 5 s after which uvicorn and Node close an idle connection, so that a POST seldom meets a closing
# one.
_POOL_KEEPALIVE_S = 4.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class UpstreamLostError(Exception):
    """The upstream closed the connection before it answered."""


class _BadRequestError(Exception):
    """The request cannot be passed on unambiguously."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def http_server(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    *,
    keepalive_s: float,
    max_line_bytes: int,
    max_field_bytes: int,
    max_headers: int,
) -> web.Server:
    """Return the low-level server whose requests PassThrough can serve: bodies stay compressed.

    Call inside a running loop; use it as the protocol factory of `loop.create_server`.
    """
    return web.Server(
        handler,
        keepalive_timeout=keepalive_s,
        max_line_size=max_line_bytes,
        max_field_size=max_field_bytes,
        max_headers=max_headers,
        auto_decompress=False,
        access_log=None,
    )


def upstream_tls(*, verify: bool = True, ca_file: str | None = None) -> ssl.SSLContext:
    """Return the TLS settings for an https upstream. Raise OSError (or ssl.SSLError) for a bad `ca_file`."""
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class PassThrough:
    """Passes requests to the upstream over pooled connections. Make it in a running loop; `close` it."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        connections: int = 1000,
        connect_timeout_s: float = 3,
        response_timeout_s: float = 300,
        body_idle_s: float | None = None,
        max_line_bytes: int = 16384,
        max_field_bytes: int = 16384,
        max_headers: int = 128,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        first_hop: bool = False,
    ) -> None:
        """Set up the pool.

        `tls` (see `upstream_tls`) is for an https upstream, `server_name` for another name than its host's.
        `response_timeout_s` counts from the end of the request to the head of the response; a body may take
        any time. `first_hop`: what a request says of proxies before us is not passed on. `body_idle_s`: how
        long a client may be silent in the midst of its request's body.
        """
        self._upstream = upstream
        self._body_idle_s = body_idle_s
        self._server_name = server_name
        self._first_hop = first_hop
        scheme = "https" if upstream.tls else "http"
        self._url = f"{scheme}://{upstream.authority}/"
        connector: aiohttp.BaseConnector
        if upstream.scheme == "unix":
            connector = aiohttp.UnixConnector(
                upstream.path, limit=connections, keepalive_timeout=_POOL_KEEPALIVE_S
            )
        else:
            connector = aiohttp.TCPConnector(
                limit=connections, keepalive_timeout=_POOL_KEEPALIVE_S, ssl=tls if tls is not None else True
            )
        # aiohttp has no other way to choose the protocol of its connections.
        connector._factory = partial(InterimReader, asyncio.get_running_loop())  # type: ignore[assignment] # noqa: SLF001
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=ExactRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                connect=response_timeout_s, sock_connect=connect_timeout_s, sock_read=response_timeout_s
            ),
            max_line_size=max_line_bytes,
            max_field_size=max_field_bytes,
            max_headers=max_headers,
        )

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._session.close()

    async def handle(
        self,
        request: web.BaseRequest,
        target: str | None = None,
        headers: Sequence[Pair] | None = None,
        claims: Sequence[Pair] = (),
        complain: Complain | None = None,
    ) -> web.StreamResponse:
        """Answer a request with the upstream's response, or with 400, 405, 501, 502 or 504 problem+json.

        `target` replaces `request.raw_path` (path and query) where a route rewrites it, `headers` replaces
        `request.raw_headers` where the guard changes them; `claims` are the gate's own fields, which no
        `Connection` of the client's can take away. `complain` gets a message and fields when the request's
        body or the upstream fails. The calling task is cancelled when the client goes away.
        """
        try:
            exchange = self._exchange(request, target, headers, claims, complain or _complain)
        except _BadRequestError as error:
            answer = problem(error.status, "Request cannot be passed on", error.detail)
            answer.force_close()
            return answer
        watch = ClientWatch(request, exchange.proceed)
        try:
            return await self._pass(exchange)
        finally:
            watch.stop()

    def _exchange(
        self,
        request: web.BaseRequest,
        target: str | None,
        headers: Sequence[Pair] | None,
        claims: Sequence[Pair],
        complain: Complain,
    ) -> Exchange:
        if request.method == "CONNECT":
            raise _BadRequestError(405, "CONNECT is for forward proxies.")
        raw = request.raw_headers
        codings = [value.strip().lower() for name, value in raw if name.lower() == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:
            # RFC 9112 section 6.1: "a transfer coding it does not understand SHOULD respond with 501".
            raise _BadRequestError(501, "Transfer-Encoding other than chunked.")
        modern = request.version >= HttpVersion11
        line, authority = origin_form(request.method, request.raw_path)
        if target is not None:
            line = target.encode("utf-8", "surrogateescape")
        pairs = [*self._fields(request, authority, raw if headers is None else headers), *claims]
        expects = (first(pairs, b"expect") or b"").lower() == b"100-continue"
        if not modern:
            # RFC 9110 section 10.1.1: "MUST ignore that expectation" in an HTTP/1.0 request.
            pairs = [pair for pair in pairs if pair[0].lower() != b"expect"]
        if codings:
            pairs.append((b"Transfer-Encoding", b"chunked"))
        try:
            wire = serialize(request.method.encode() + b" " + line + b" HTTP/1.1", pairs)
        except ValueError as error:
            raise _BadRequestError(400, "A control character in the request head.") from error
        has_body = bool(codings) or request.body_exists
        proceed = None
        if expects and modern and has_body:
            proceed = asyncio.get_running_loop().create_future()
        return Exchange(request, wire, bool(codings), has_body, proceed, complain)

    def _fields(
        self, request: web.BaseRequest, authority: bytes | None, headers: Sequence[Pair]
    ) -> list[Pair]:
        """Return the fields for the upstream: end-to-end ones, forwarding ones, and a Host whatever came."""
        pairs = end_to_end(headers)
        if self._first_hop:
            pairs = without_forwarded(pairs)
        if authority is not None:
            pairs = with_host(pairs, authority)
        host = first(pairs, b"host")
        pairs = forwarded(pairs, request.remote or "", request.scheme, host or b"")
        return with_host(pairs, self._upstream.authority.encode()) if host is None else pairs

    async def _pass(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        try:
            response = await self._session.request(
                request.method,
                self._url,
                data=exchange.body(self._body_idle_s) if exchange.has_body else None,
                allow_redirects=False,
                server_hostname=self._server_name,
                middlewares=(
                    _once_more(exchange),
                    exactly(Head(exchange.wire, exchange.chunked, exchange.interim)),
                ),
            )
        except (aiohttp.ClientError, UpstreamLostError, OSError) as error:
            return _failure(exchange, error)
        exchange.response = response
        try:
            return await _relay(exchange, response)
        finally:
            # Closes the connection when the body was not read to its end; otherwise it is back in the pool
            # already.
            response.close()


class ClientWatch(asyncio.Protocol):
    """Stands between a transport and aiohttp during a request: cancels the task when the client goes.

    aiohttp tells a handler of that only with `handler_cancellation=True`, for all handlers of a server, and a
    WebSocket session must outlive its client. `proceed` is set when the body begins to come.
    """

    def __init__(self, request: web.BaseRequest, proceed: asyncio.Future[None] | None = None) -> None:
        """Take the place of aiohttp's protocol at once."""
        self._task = asyncio.current_task()
        self._transport = request.transport
        self._inner = request.protocol
        self._content = request.content
        self._proceed = proceed
        if self._transport is not None:
            self._transport.set_protocol(self)
        self._look_at_body()

    def stop(self) -> None:
        """Give the transport back."""
        if self._transport is not None and self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)

    def data_received(self, data: bytes) -> None:
        """Hand on, and look what became of it."""
        self._inner.data_received(data)
        self._look_at_body()

    def eof_received(self) -> bool | None:
        """Hand on; aiohttp closes, as nginx does: a client that half-closes has left."""
        return self._inner.eof_received()  # type: ignore[func-returns-value]

    def pause_writing(self) -> None:
        """Hand on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on, and cancel."""
        self._inner.connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    def _look_at_body(self) -> None:
        if self._proceed is not None and self._content.total_bytes and not self._proceed.done():
            self._proceed.set_result(None)
        queued = self._inner._messages  # noqa: SLF001 - what aiohttp could not read is told nowhere else
        if queued and isinstance(queued[0][0], _ErrInfo) and not self._content.is_eof():
            # The framing of this body is broken. aiohttp would answer 400 behind it, but never ends it.
            set_exception(self._content, RequestPayloadError("broken framing"))
            self._content.feed_eof()


def _once_more(exchange: Exchange) -> Middleware:
    """Return a client middleware that retries once what a stale pooled connection may have swallowed.

    RFC 9110 section 9.2.2 lets a proxy repeat idempotent requests; only safe ones without a body are. It also
    keeps aiohttp from its own retry, which would repeat PUT and DELETE, by raising UpstreamLostError.
    """

    async def attempt(request: aiohttp.ClientRequest, handler: ClientHandler) -> aiohttp.ClientResponse:
        last_try = request.method not in _SAFE or exchange.has_body
        while True:
            try:
                return await handler(request)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if last_try:
                    raise UpstreamLostError(str(error)) from error
                last_try = True

    return attempt


def _complain(message: str, fields: dict[str, object]) -> None:
    log.warning(message, extra={"fields": fields})


def _failure(exchange: Exchange, error: Exception) -> web.Response:
    """Return the answer for a request that got no response, and log why."""
    if exchange.client_error is not None:
        if isinstance(exchange.client_error, BodyTooSlowError):
            answer = problem(408, "Request Timeout", "The request's body did not come.")
        else:
            answer = problem(400, "Bad request body")
        answer.force_close()
        _complain_of_body(exchange, answer.status)
        return answer
    if isinstance(error, asyncio.TimeoutError):
        answer = problem(504, "Upstream did not answer in time")
    elif isinstance(error, aiohttp.ClientConnectorError):
        answer = problem(502, "Upstream cannot be reached")
    elif isinstance(error, aiohttp.ClientResponseError | ValueError):
        answer = problem(502, "Upstream did not answer in HTTP")
    else:
        answer = problem(502, "Upstream closed the connection before it answered")
    if exchange.has_body:
        answer.force_close()
    exchange.complain("no answer from the upstream", {"status": answer.status, "error": type(error).__name__})
    return answer


def _complain_of_body(exchange: Exchange, status: int) -> None:
    error = type(exchange.client_error).__name__
    exchange.complain("bad request body", {"status": status, "error": error})


async def _relay(exchange: Exchange, response: aiohttp.ClientResponse) -> web.StreamResponse:
    """Send the upstream's response on as it comes."""
    protocol = None if response.connection is None else response.connection.protocol
    if protocol is not None:
        # The head is here. From now on the client says how long it waits: event streams are silent at times.
        protocol.read_timeout = None
        protocol.start_timeout()
    raw = response.raw_headers
    answer = ExactResponse(response.status, response.reason or "", of_response(response.status, raw))
    coding = first(raw, b"transfer-encoding")
    try:
        if response.status == HTTPStatus.SWITCHING_PROTOCOLS or not response_is_clear(response.status, raw):
            return _failure(exchange, ValueError("an answer that nobody asked for"))
        if exchange.proceed is not None and not exchange.proceed.done():
            # The client may or may not send its body now: what follows on this connection would be ambiguous.
            answer.force_close()
        await answer.prepare(exchange.request)
    except ValueError as error:
        return _failure(exchange, error)
    ends_by_close = coding is None and first(raw, b"content-length") is None
    try:
        async for chunk in response.content.iter_any():
            await answer.write(chunk)
        if ends_by_close and protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError):
            # aiohttp takes a body without a length for whole when a reset ends it.
            raise aiohttp.ClientPayloadError("reset")
    except (aiohttp.ClientError, OSError) as error:
        if exchange.client_error is not None:
            _complain_of_body(exchange, response.status)
        else:
            exchange.complain("response cut", {"status": response.status, "error": type(error).__name__})
        answer.cut()
        return answer
    await answer.write_eof()
    return answer
