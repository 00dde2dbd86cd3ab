"""A hostile client: a blocking socket that says exactly what it is told, and reads until the end."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Self

from tests.hostile.strict import STATUS_LINE, Message, Strict

WAIT_S = 10.0
FAR_TOO_MUCH = 1 << 26
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def upgrade(*fields: bytes, target: bytes = b"/ws", key: bytes = KEY) -> bytes:
    """An upgrade request; `fields` are further lines."""
    lines = [
        b"GET " + target + b" HTTP/1.1",
        b"Host: example.test",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Peer:
    """One connection, as a context manager. What came and was not taken is in `raw`."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_S)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Say it; who is refused in the midst of it may be cut."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def end(self) -> bytes:
        """Wait for the other side's end; return all that came."""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                self.raw += part
        return self.raw

    def finish(self) -> bytes:
        """Say that nothing more will be said; wait for the other side's end, and return all that came."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self.end()

    def fill(self, part: bytes) -> int:
        """Say it again and again until it is not taken any more; return how many bytes were."""
        self.socket.settimeout(0.3)
        count = 0
        with contextlib.suppress(TimeoutError):
            while count < FAR_TOO_MUCH:
                count += self.socket.send(part)
        self.socket.settimeout(WAIT_S)
        return count

    def responses(self, count: int) -> list[Message]:
        """Return so many responses, read strictly."""
        reader, found = Strict(STATUS_LINE), []
        found += reader.feed(self.raw)
        while len(found) < count or not reader.whole:
            part = self.socket.recv(65536)
            if not part:
                raise EOFError(self.raw)
            self.raw += part
            found += reader.feed(part)
        return found

    def until(self, part: bytes) -> None:
        """Read until this has come; EOFError when it cannot any more."""
        while part not in self.raw:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(self.raw)
            self.raw += more

    def upgraded(self) -> None:
        """Read a 101."""
        self.until(b"\r\n\r\n")
        assert self.raw.startswith(b"HTTP/1.1 101"), self.raw
        self.raw = self.raw.partition(b"\r\n\r\n")[2]

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
