"""A gate in this process, a backend that does as it is told, and means to call at one and watch the other."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from aiohttp.http_exceptions import HttpProcessingError
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.core.frames import CLOSE, PING, PONG, TEXT, FrameWalker, close_frame, frame
from proxy.edge.dial import accept_value
from proxy.edge.upstream import parse_upstream
from proxy.policy import load
from proxy.server import Gate, Listeners
from tests.edge.peers import MASK
from tests.telemetry.reports import telemetry

# Nothing is waited for that does not come at once.
POLICY = """
extends: testing
handshake:
  client: {stabilization: {max_ms: 0}}
  upstream: {stabilization: {max_ms: 0}}
  redial: {tries: 1, base_ms: 1, max_ms: 1}
departure: {quiet_ms: 0, min_ms: 0, max_ms: 1}
"""
WELCOME = frame(TEXT, b"welcome")
_BOUND_S = 10.0  # only a hang reaches it
_QUIET_TURNS = 40  # of the loop, in which every byte on a loopback connection is there


class Wire(asyncio.Protocol):
    """One end of a connection: what came over it, and whether it is over."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.came = bytearray()
        self.over = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.door.stirred = True
        self.came += data

    def eof_received(self) -> bool:
        self.door.stirred = True
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.door.stirred = True
        if not self.over.done():
            self.over.set_result(None)


class Backend(Wire):
    """A connection of the backend: answers one request as `door.answer` says, then as WebSocket asks."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._walker: FrameWalker | None = None
        self._answered = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._walker is not None:
            self._hear(data)
            return
        end = self.came.find(b"\r\n\r\n")
        if end < 0 or self._answered:
            return
        self._answered = True
        head = bytes(self.came[: end + 4])
        self.door.heads.append(head)
        if self.door.answer is not None:
            self.transport.write(self.door.answer)
            self.transport.write_eof()
        elif b"\r\nupgrade: websocket\r\n" in head.lower():
            self._walker = FrameWalker(controls=True)
            self.transport.write(switching(head) + WELCOME)
            self._hear(bytes(self.came[end + 4 :]))
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            self.transport.close()

    def _hear(self, data: bytes) -> None:
        assert self._walker is not None
        self._walker.feed(data)
        for notice in self._walker.notices:
            if notice.opcode == PING:
                self.transport.write(frame(PONG, notice.payload[:125]))
            elif notice.opcode == CLOSE:
                self.transport.write(close_frame(1000))
                self.transport.close()
        self._walker.notices.clear()


def switching(head: bytes) -> bytes:
    """Return the 101 that answers an upgrade request."""
    keys = [
        line.partition(b":")[2].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    ]
    fields = [
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept_value(keys[0]),
    ]
    return b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *fields]) + b"\r\n\r\n"


class Errors(logging.Handler):
    """Keeps what is logged as an error, but for aiohttp's word on what is no HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            return
        cause = record.exc_info[1] if record.exc_info else None
        if record.name.startswith("aiohttp") and isinstance(cause, HttpProcessingError):
            return
        self.told.append(f"{record.name}: {record.getMessage()}: {cause!r}")


class Door:
    """The gate, open for calls by `run` until `close`. `answer`: what the backend says to any request."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._folder = tempfile.TemporaryDirectory(prefix="readygate-fuzz-")
        self._exporter = InMemorySpanExporter()
        self._errors = Errors()
        self.answer: bytes | None = None
        self.heads: list[bytes] = []
        self.stirred = False
        logging.getLogger().addHandler(self._errors)
        self._runner.run(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._backend = await loop.create_server(lambda: Backend(self), "127.0.0.1", 0)
        file = Path(self._folder.name) / "policy.yaml"
        file.write_text(POLICY)
        url = parse_upstream(f"http://127.0.0.1:{self._backend.sockets[0].getsockname()[1]}")
        self.gate = Gate(url, load(str(file)), telemetry(self._exporter), None)
        public = socket.create_server(("127.0.0.1", 0))
        self._port = public.getsockname()[1]
        await self.gate.start(Listeners(public))

    def run(self, call: Callable[[Door], Coroutine[Any, Any, None]]) -> None:
        """Run a call within its bound; afterwards the gate must be as it was."""

        async def bounded() -> None:
            async with asyncio.timeout(_BOUND_S):
                self.heads.clear()
                await call(self)
                self.answer = None
                await self._as_before()

        self._runner.get_loop().run_until_complete(bounded())

    async def say(self, *parts: bytes) -> bytes:
        """Send these parts one after the other, then end; return what came back."""
        client = await self._dial()
        for part in parts:
            client.transport.write(part)
            await self.quiet()
            if client.over.done():
                break
        return await self._end(client)

    async def ask(self, request: bytes) -> bytes:
        """Send a request, wait for the head of an answer, and for all of it unless it is a 101."""
        client = await self._dial()
        client.transport.write(request)
        while b"\r\n\r\n" not in client.came and not client.over.done():
            await asyncio.sleep(0)
        if not client.came.startswith(b"HTTP/1.1 101 "):
            await client.over
        await self.quiet()
        return await self._end(client)

    async def _dial(self) -> Wire:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Wire(self), "127.0.0.1", self._port)
        return client

    async def _end(self, client: Wire) -> bytes:
        if not (client.over.done() or client.transport.is_closing()):
            client.transport.write_eof()
        await client.over
        return bytes(client.came)

    async def quiet(self) -> None:
        """Let the loop turn until nothing has come over any connection for a while."""
        still = 0
        while still < _QUIET_TURNS:
            self.stirred = False
            await asyncio.sleep(0)
            still = 0 if self.stirred else still + 1

    async def _as_before(self) -> None:
        """An honest upgrade works, and nothing is left of it or of what was before."""
        client = await self._dial()
        client.transport.write(HONEST)
        while WELCOME not in client.came:
            assert not client.over.done(), f"an honest upgrade gets {bytes(client.came)!r}"
            await asyncio.sleep(0)
        assert client.came.startswith(b"HTTP/1.1 101 ")
        client.transport.write(close_frame(1000, mask=MASK))
        await client.over
        await self.gate._shared.idle()
        assert not self._errors.told, self._errors.told
        self._exporter.clear()

    def close(self) -> None:
        """Stop the gate."""
        self._backend.close()
        self._runner.run(self.gate.stop())
        self._runner.close()
        logging.getLogger().removeHandler(self._errors)
        self._folder.cleanup()


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HONEST = (
    b"GET /ws HTTP/1.1\r\nHost: honest.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
_opened: list[Door] = []


def door() -> Door:
    """Return the one door of this process."""
    if not _opened:
        _opened.append(Door())
    return _opened[0]


def shut() -> None:
    """Close it, if it is open."""
    while _opened:
        _opened.pop().close()
