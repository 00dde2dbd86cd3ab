"""One try at the upstream: connect, send the upgrade request, read the answer's head.

What the client sent is passed on as it came: raw request target, raw header fields. The key is the client's
own, so that the upstream's 101 can be passed on to it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from proxy.edge.headers import Pair, first, serialize
from proxy.edge.takeover import Outbound
from proxy.guard import response_is_clear

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from proxy.edge.upstream import Upstream

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_HELD_BODY: Final = 65536
_SWITCHING_PROTOCOLS: Final = 101


class DialError(Exception):
    """A try that came to no answer. `cause` is one word: refused, timeout, dns, tls, lost, bad_answer, ..."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Response:
    """The upstream's answer: its head byte for byte, what was held of its body, and what is still to come.

    `rest` None: `body` is all of it.
    """

    status: int
    reason: str
    headers: tuple[Pair, ...]
    body: bytes = b""
    rest: StreamReader | None = None

    @property
    def accepted(self) -> bool:
        """Whether it is a 101."""
        return self.status == _SWITCHING_PROTOCOLS

    @property
    def subprotocol(self) -> str | None:
        """What the upstream chose."""
        return self._value(b"sec-websocket-protocol")

    @property
    def extensions(self) -> str | None:
        """What the upstream negotiated, verbatim."""
        return self._value(b"sec-websocket-extensions")

    def _value(self, name: bytes) -> str | None:
        # RFC 9110 5.3: fields of one name are one list, in order
        values = [value for key, value in self.headers if key.lower() == name]
        return b", ".join(values).decode("latin-1") if values else None


def accept_value(key: bytes) -> bytes:
    """Return the `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 4.2.2, 5.4)."""
    return base64.b64encode(hashlib.sha1(key.strip() + _GUID).digest())  # noqa: S324 - the RFC's choice


def upgrade_request(target: bytes, headers: list[Pair]) -> bytes:
    """Return the upgrade request's head. `headers` are end-to-end fields (see `headers.end_to_end`)."""
    hop = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return serialize(b"GET " + target + b" HTTP/1.1", [*headers, *hop])


class Dial:
    """One try. `connect`, then `upgrade`, then (after a 101) `outbound.hand_over`; `abort` at any time."""

    __slots__ = ("_loop", "_tls", "_upstream", "outbound")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, upstream: Upstream, tls: ssl.SSLContext | None
    ) -> None:
        self._loop = loop
        self._upstream = upstream
        self._tls = tls
        self.outbound = Outbound(loop)

    async def connect(self, timeout_s: float, server_name: str | None) -> None:
        """Connect over TCP, TLS or a Unix socket. Raise DialError."""
        to = self._upstream
        try:
            async with asyncio.timeout(timeout_s):
                if to.scheme == "unix":
                    await self._loop.create_unix_connection(self._factory, to.path)
                elif self._tls is None:
                    await self._loop.create_connection(self._factory, to.host, to.port)
                else:
                    await self._loop.create_connection(
                        self._factory, to.host, to.port, ssl=self._tls, server_hostname=server_name or to.host
                    )
        except TimeoutError:
            raise DialError("timeout") from None
        except ssl.SSLError:
            raise DialError("tls") from None
        except (ConnectionRefusedError, FileNotFoundError):
            raise DialError("refused") from None
        except socket.gaierror:
            raise DialError("dns") from None
        except OSError:
            raise DialError("unreachable") from None

    def _factory(self) -> asyncio.Protocol:
        return self.outbound.protocol

    async def upgrade(self, head: bytes, key: bytes, holdable: frozenset[int]) -> Response:
        """Send the upgrade request and read the answer. Raise DialError if there is none, or a false 101.

        The body of an answer whose status is in `holdable` is read, if it is not too long, so that the try
        may be followed by another one without losing it.
        """
        try:
            message, body = await self.outbound.exchange(head)
            response = Response(message.code, message.reason, message.raw_headers, rest=body)
            _check_head(response)
            if response.accepted:
                self._check(response, key)
                return response
            return await _held(response, body) if response.status in holdable else response
        except (aiohttp.ServerDisconnectedError, OSError):
            raise DialError("lost") from None
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError):
            raise DialError("bad_answer") from None

    def _check(self, response: Response, key: bytes) -> None:
        # RFC 6455 4.1: "If the response lacks a |Sec-WebSocket-Accept| header field or the
        # |Sec-WebSocket-Accept| contains a value other than [...] the client MUST _Fail the WebSocket
        # Connection_."
        upgrade = (first(response.headers, b"upgrade") or b"").strip().lower()
        accept = (first(response.headers, b"sec-websocket-accept") or b"").strip()
        if upgrade != b"websocket" or accept != accept_value(key):
            raise DialError("bad_answer")

    def abort(self) -> None:
        """End the try at once."""
        self.outbound.abort()


def _check_head(response: Response) -> None:
    """Raise DialError for a head that aiohttp let pass and that must not be passed on."""
    if not response_is_clear(response.status, response.headers):
        raise DialError("bad_answer")
    try:
        serialize(response.reason.encode("utf-8", "surrogateescape"), response.headers)
    except ValueError:
        raise DialError("bad_answer") from None


async def _held(response: Response, body: StreamReader) -> Response:
    """Read the body up to what is held; leave the rest for streaming."""
    parts: list[bytes] = []
    size = 0
    while size <= _HELD_BODY:
        part = await body.readany()
        if not part:
            return Response(response.status, response.reason, response.headers, b"".join(parts))
        parts.append(part)
        size += len(part)
    return Response(response.status, response.reason, response.headers, b"".join(parts), body)
