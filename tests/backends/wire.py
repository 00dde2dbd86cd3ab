"""A raw WebSocket client on asyncio: exact bytes out, frames in, nothing repaired, one try per connection.

It can put frames into the same segment as its upgrade request, leave at any moment in any way, and it answers
pings like every WebSocket stack does. Used by the race, the bench and the integration tests.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Self

from tests.backends.flaky import accept_key, encode, take_frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class ClosedError(Exception):
    """The other end is gone: its close code (1006 without a Close frame) and reason."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed {code} {reason}".strip())
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Head:
    """An HTTP response's head."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the server; `first` is its first byte."""

    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 0x0F


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def upgrade(path: str, *fields: str, key: str = "", host: str = "example.test") -> bytes:
    """Return an upgrade request; `fields` are further header lines."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key or new_key()}",
        "Sec-WebSocket-Version: 13",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def text(message: str) -> bytes:
    """Return a masked text frame."""
    return encode(TEXT, message.encode(), os.urandom(4))


def binary(message: bytes, first: int = BINARY) -> bytes:
    """Return a masked frame with this first byte."""
    return encode(first, message, os.urandom(4))


def close(code: int = 1000, reason: str = "") -> bytes:
    """Return a masked Close frame."""
    return encode(CLOSE, struct.pack("!H", code) + reason.encode(), os.urandom(4))


class Wire(asyncio.Protocol):
    """One connection. `await Wire.dial(...)`, then `head()`, then `frame()` or `message()`.

    `drop_over_read`: this client's handshake reader throws away what came in the same read as the response
    head, as real client libraries have done. `answer_pings` False: a stack that never answers.
    """

    def __init__(self, *, drop_over_read: bool = False, answer_pings: bool = True) -> None:
        self._drop_over_read, self._answer_pings = drop_over_read, answer_pings
        loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._head: asyncio.Future[Head] = loop.create_future()
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._body = asyncio.Event()
        self._close: tuple[int, str] | None = None
        self._sent_close = False
        self.gone = asyncio.Event()
        self.dialled_at = self.head_at = 0.0
        self.pings = 0
        self.transport: asyncio.Transport

    @classmethod
    async def dial(
        cls,
        address: tuple[str, int] | str,
        first: bytes,
        *,
        tls: ssl.SSLContext | None = None,
        drop_over_read: bool = False,
        answer_pings: bool = True,
    ) -> Wire:
        """Connect to (host, port) or a Unix path and send `first` in one write."""
        loop = asyncio.get_running_loop()
        wire = cls(drop_over_read=drop_over_read, answer_pings=answer_pings)
        wire.dialled_at = time.perf_counter()
        if isinstance(address, str):
            await loop.create_unix_connection(lambda: wire, address)
        else:
            name = "localhost" if tls else None
            await loop.create_connection(lambda: wire, *address, ssl=tls, server_hostname=name)
        wire.send(first)
        return wire

    @property
    def open_s(self) -> float:
        """Seconds from dialling to the whole response head."""
        return self.head_at - self.dialled_at

    def send(self, *chunks: bytes) -> None:
        """Send in one write, so that small chunks travel in one segment. Nothing, if it has ended."""
        if not self.transport.is_closing():
            self.transport.write(b"".join(chunks))

    async def head(self) -> Head:
        """Return the response head. Raise ClosedError when the connection ended before it."""
        return await asyncio.shield(self._head)

    async def body(self) -> bytes:
        """Return the body once all of it came: by Content-Length, chunks, or the connection's end."""
        head = await self.head()
        chunked = head.get("Transfer-Encoding") == "chunked"
        length = int(head.get("Content-Length") or -1)
        while not self.gone.is_set() and not (
            self._buffer.endswith(b"0\r\n\r\n") if chunked else 0 <= length <= len(self._buffer)
        ):
            self._body.clear()
            await self._body.wait()
        return unchunked(self._buffer) if chunked else bytes(self._buffer)

    async def frame(self) -> Frame:
        """Return the next frame, control frames too. Raise ClosedError at the end."""
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
            raise ClosedError(*(self._close or (1006, "")))
        return frame

    async def message(self) -> bytes:
        """Return the next whole data message, fragments joined. Raise ClosedError at the end."""
        parts: list[bytes] = []
        while True:
            frame = await self.frame()
            if frame.opcode >= 0x8:
                continue
            parts.append(frame.payload)
            if frame.first & 0x80:
                return b"".join(parts)

    async def leave(self, code: int = 1000) -> list[bytes]:
        """Close properly: send Close, wait for the other side's and its end. Returns late messages."""
        self._send_close(struct.pack("!H", code))
        late = []
        try:
            while True:
                late.append(await self.message())
        except ClosedError:
            await self.gone.wait()
            return late

    def abort(self) -> None:
        """Vanish with a TCP reset."""
        if self.transport.is_closing():
            return
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def hang_up(self) -> None:
        """End the TCP connection without a Close frame."""
        self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.abort()
        await self.gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._head.done() and b"\r\n\r\n" in self._buffer:
            self._parse_head()
        if self._head.done() and self._head.result().status == 101:
            self._parse_frames()
        self._body.set()

    def _parse_head(self) -> None:
        raw, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        _, status, reason = (first + "  ").split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        head = Head(int(status), reason.strip(), tuple((name, value.strip()) for name, _, value in pairs))
        self._buffer = bytearray(rest)
        if 100 <= head.status < 200 and head.status != 101:
            return
        if self._drop_over_read:
            self._buffer.clear()
        self.head_at = time.perf_counter()
        self._head.set_result(head)

    def _parse_frames(self) -> None:
        while taken := take_frame(self._buffer):
            frame = Frame(*taken)
            if frame.opcode == 0x8:
                code = int.from_bytes(frame.payload[:2], "big") or 1005
                self._close = (code, frame.payload[2:].decode(errors="replace"))
                self._send_close(frame.payload[:2])
            elif frame.opcode == 0x9:
                self.pings += 1
                if self._answer_pings:
                    self.send(encode(PONG, frame.payload, os.urandom(4)))
            self._frames.put_nowait(frame)

    def _send_close(self, payload: bytes) -> None:
        if not self._sent_close:
            self._sent_close = True
            self.send(encode(CLOSE, payload, os.urandom(4)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._head.done():
            self._head.set_exception(ClosedError(1006, "before any response"))
            self._head.exception()  # asked for, so that nobody is told it never was
        self._frames.put_nowait(None)
        self.gone.set()
        self._body.set()


def unchunked(body: bytes) -> bytes:
    """Decode a whole chunked body without extensions (RFC 9112 section 7.1)."""
    decoded, rest = b"", bytes(body)
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        decoded, rest = decoded + rest[:count], rest[count + 2 :] if count else b""
    return decoded


async def opened(
    address: tuple[str, int] | str, path: str, *fields: str, early: bytes = b"", **options
) -> Wire:
    """Dial and upgrade with `early` in the same segment; AssertionError unless the answer is a valid 101."""
    key = new_key()
    wire = await Wire.dial(address, upgrade(path, *fields, key=key) + early, **options)
    head = await wire.head()
    assert head.status == 101, (head, await wire.body())
    assert head.get("Sec-WebSocket-Accept") == accept_key(key), head
    return wire
