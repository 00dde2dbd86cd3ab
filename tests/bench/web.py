"""Plain HTTP as cheap as it can be: a server, and callers for it. `python -m tests.bench.web PORT`.

`GET /N` answers with N bytes; `POST` takes a body of any size and answers with nothing; `GET /received` tells
how many bytes of bodies came. Bodies have a Content-Length, in both directions.
"""

from __future__ import annotations

import asyncio
import re
import sys

import uvloop

from tests.backends import launch, wire
from tests.bench.stand import Address

PIECE = bytes(256 * 1024)
SMALL = 4096
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Messages(asyncio.BufferedProtocol):
    """Reads HTTP messages one after the other and writes bodies no faster than the other side takes them."""

    room = memoryview(bytearray(1 << 18))  # for all connections: it is emptied before the loop reads again

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._unsent = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        if self._left > nbytes:
            self._left -= nbytes
            return
        self._read(bytes(self.room[:nbytes]))

    def _read(self, data: bytes) -> None:
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left, data = self._left - taken, data[taken:]
            else:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                if not end:
                    self._head = head
                    return
                self._head, self._current = b"", head
                length = LENGTH.search(head)
                self._left = self._length = int(length[1]) if length else 0
            if not self._left:
                self.whole(self._current, self._length)

    def whole(self, head: bytes, length: int) -> None:
        """A message has come to its end."""
        raise NotImplementedError

    def send(self, head: bytes, length: int) -> None:
        """Write a head and a body of this many zeros."""
        if length <= SMALL:
            self.transport.write(head + bytes(length))
            return
        self.transport.write(head)
        self._unsent = length
        self._write_on()

    def _write_on(self) -> None:
        while self._unsent and not self._paused:
            piece = PIECE[: self._unsent] if self._unsent < len(PIECE) else PIECE
            self._unsent -= len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write_on()


class Answering(Messages):
    """The server's side of a connection."""

    received = 0

    def whole(self, head: bytes, length: int) -> None:
        method, path = head.split(b" ", 2)[:2]
        if method == b"POST":
            Answering.received += length
            size = 0
        elif path == b"/received":
            body = str(Answering.received).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        else:
            size = int(path[1:])
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, size)


class Caller(Messages):
    """A client that asks one thing after the other. `await call(...)` returns when the answer is whole."""

    _answer: asyncio.Future[None] | None = None

    async def call(self, method: str, path: str, length: int = 0) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        fields = f"Host: example.test\r\nContent-Length: {length}" if length else "Host: example.test"
        self.send(f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode(), length)
        await self._answer

    def whole(self, head: bytes, length: int) -> None:  # noqa: ARG002
        if head.startswith(b"HTTP/1.1 200 ") and LENGTH.search(head):
            self._answer.set_result(None)
        else:
            self._answer.set_exception(ConnectionError(head.decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed before the answer"))


async def caller(address: Address) -> Caller:
    """Connect."""
    _, made = await asyncio.get_running_loop().create_connection(Caller, *address)
    return made


async def received(address: Address) -> int:
    """Return how many bytes of bodies the server got."""
    client = await wire.Wire.dial(address, b"GET /received HTTP/1.1\r\nHost: example.test\r\n\r\n")
    async with client:
        return int(await client.body())


def start() -> launch.Server:
    """Start the server as a process."""
    port = launch.free_port()
    return launch.ready(launch.start("web", [sys.executable, "-m", "tests.bench.web", str(port)], port=port))


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
