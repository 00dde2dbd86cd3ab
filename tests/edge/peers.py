"""Both ends of a gate under test, byte for byte: raw peers, a backend that does as it is told, the gate."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.core.frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from proxy.edge.auth import load_materials
from proxy.edge.dial import accept_value
from proxy.edge.session import Session
from proxy.edge.upstream import parse_upstream
from proxy.policy import load
from proxy.server import Gate, Listeners
from tests.backends.flaky import take_frame
from tests.telemetry.reports import telemetry

T = TypeVar("T")
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"

# Budgets that no healthy machine runs into, windows and pauses as short as can be.
POLICY = """
extends: production
handshake:
  client: {propagation: {budget_ms: 5000}, validation: {budget_ms: 5000}, stabilization: {max_ms: 1}}
  upstream: {propagation: {budget_ms: 5000}, validation: {budget_ms: 5000}, stabilization: {max_ms: 1}}
  redial: {base_ms: 1, max_ms: 1}
departure: {quiet_ms: 5, min_ms: 5}
drain: {spread_s: 0}
"""


def request(path: bytes = b"/ws", *fields: bytes, key: bytes = KEY) -> bytes:
    """An upgrade request; `fields` are further lines."""
    lines = [
        b"GET " + path + b" HTTP/1.1",
        b"Host: example.test",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def said(text: str, *, masked: bool = True) -> bytes:
    """A text frame, as a client says it."""
    return frame(TEXT, text.encode(), mask=MASK if masked else None)


def bye(code: int, reason: str = "", *, masked: bool = True) -> bytes:
    """A Close frame, as a client says it."""
    return close_frame(code, reason, mask=MASK if masked else None)


class Peer(asyncio.Protocol):
    """One end of a connection. It keeps its side open after an EOF, and answers pings when it may.

    After `start_frames` it cuts what comes into frames, (first byte, unmasked payload) each; before it, and
    without it, all that comes is in `raw`.
    """

    def __init__(self, *, masks: bool = True, pongs: bool = True) -> None:
        self.raw = bytearray()
        self.masks, self.pongs = masks, pongs
        self.eof = self.lost = False
        self.error: Exception | None = None
        self.pings = 0
        self._ended = False
        self.transport: asyncio.Transport
        self._frames: deque[tuple[int, bytes]] | None = None
        self._pulse = asyncio.Event()

    @classmethod
    async def dial(cls, port: int, first: bytes = b"", **options: bool) -> Peer:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(lambda: cls(**options), "127.0.0.1", port)
        if first:
            peer.send(first)
        return peer

    # -- what it does ---------------------------------------------------------------------------------------

    def send(self, *chunks: bytes) -> None:
        """Write in one piece, so that short ones travel in one segment."""
        self.transport.write(b"".join(chunks))

    def say(self, text: str) -> None:
        self.send(said(text, masked=self.masks))

    def bye(self, code: int, reason: str = "") -> None:
        self.send(bye(code, reason, masked=self.masks))

    def accept(self, head: bytes, *fields: bytes, early: bytes = b"") -> None:
        """Answer an upgrade request with a 101, and with `early` in the same segment."""
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert key is not None
        lines = [
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept_value(key[1]),
        ]
        self.send(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, *fields]) + b"\r\n\r\n" + early)
        self.start_frames()

    def start_frames(self) -> None:
        self._frames = deque()
        self._cut()

    def end_writing(self) -> None:
        """Say that nothing more will be said, and go on listening."""
        self._ended = True
        self.transport.write_eof()

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """End the TCP connection, both directions."""
        self.transport.close()

    # -- what it waits for ----------------------------------------------------------------------------------

    async def until(self, found: Callable[[], T]) -> T:
        """Wait until `found` says something true; EOFError when that cannot come any more."""
        while not (value := found()):
            if self.lost or self.eof:
                raise EOFError(bytes(self.raw))
            self._pulse.clear()
            await self._pulse.wait()
        return value

    async def head(self) -> bytes:
        """Return a message head with its empty line."""
        end = await self.until(lambda: self.raw.find(b"\r\n\r\n") + 1) + 3
        return self._take(end)

    async def exactly(self, count: int) -> bytes:
        await self.until(lambda: len(self.raw) >= count)
        return self._take(count)

    async def upgraded(self) -> bytes:
        """Return the head of the answer to an upgrade; a 101 is followed by frames."""
        head = await self.head()
        if head.startswith(b"HTTP/1.1 101"):
            self.start_frames()
        return head

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame that is no ping; EOFError at the end."""
        assert self._frames is not None
        await self.until(lambda: self._frames)
        return self._frames.popleft()

    async def message(self) -> str:
        """Return the next frame, which is a text message."""
        first, payload = await self.frame()
        assert first == 0x80 | TEXT, (first, payload)
        return payload.decode()

    async def closed(self) -> tuple[int, str]:
        """Return the code and reason of the next frame, which is a Close."""
        first, payload = await self.frame()
        assert first == 0x80 | CLOSE, (first, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def end(self) -> bytes:
        """Wait for the other side's last byte; return what came and was not taken."""
        while not (self.eof or self.lost):
            self._pulse.clear()
            await self._pulse.wait()
        return bytes(self.raw) + b"".join(payload for _, payload in self._frames or ())

    async def gone(self) -> None:
        """Wait until the connection is over on our side, too."""
        while not self.lost:
            self._pulse.clear()
            await self._pulse.wait()

    # -- asyncio.Protocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self._cut()
        self._pulse.set()

    def eof_received(self) -> bool:
        self.eof = True
        self._pulse.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._pulse.set()

    def _take(self, count: int) -> bytes:
        taken = bytes(self.raw[:count])
        del self.raw[:count]
        return taken

    def _cut(self) -> None:
        while self._frames is not None and (taken := take_frame(self.raw)):
            first, payload = taken
            if first & 0x0F == PING:
                self.pings += 1
                if self.pongs and not self._ended:
                    self.send(frame(PONG, payload, mask=MASK if self.masks else None))
            else:
                self._frames.append((first, payload))


class Backend:
    """A listening socket whose connections the test takes one by one, each as a `Peer`."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self._new: asyncio.Queue[Peer] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def listening(cls, port: int = 0) -> AsyncIterator[Backend]:
        backend = cls()
        server = await asyncio.get_running_loop().create_server(backend._made, "127.0.0.1", port)
        backend.port = server.sockets[0].getsockname()[1]
        try:
            yield backend
        finally:
            server.close()
            await vanish(*backend.peers)

    def _made(self) -> Peer:
        peer = Peer(masks=False)
        self.peers.append(peer)
        self._new.put_nowait(peer)
        return peer

    async def connection(self) -> Peer:
        """Return the next connection."""
        return await self._new.get()

    async def requested(self) -> tuple[Peer, bytes]:
        """Return the next connection and the head of its request."""
        peer = await self.connection()
        return peer, await peer.head()

    async def accepted(self, *fields: bytes, early: bytes = b"") -> Peer:
        """Accept the next upgrade and return its connection."""
        peer, head = await self.requested()
        peer.accept(head, *fields, early=early)
        return peer


class Stand:
    """A gate in this process, and what it leaves behind."""

    def __init__(
        self, gate: Gate, port: int, backend: Backend | None, exporter: InMemorySpanExporter
    ) -> None:
        self.gate, self.port = gate, port
        self._backend = backend
        self.clients: list[Peer] = []
        self._exporter = exporter
        self._sockets = open_sockets()
        self._tasks = asyncio.all_tasks()

    @property
    def sessions(self) -> set[Session]:
        return self.gate._shared.sessions

    async def dial(self, first: bytes, **options: bool) -> Peer:
        client = await Peer.dial(self.port, first, **options)
        self.clients.append(client)
        return client

    async def session(self) -> Session:
        """Wait until there is a session, and return it."""
        await eventually(lambda: self.sessions)
        (session,) = self.sessions
        return session

    async def clean(self, *leaving: Peer) -> None:
        """Wait until nothing is left of what was served: no session, no task, no socket.

        `leaving` vanish first; the gate has to manage without the help of any other peer.
        """
        await vanish(*leaving)
        await self.gate._shared.idle()
        await vanish(*self.clients, *(self._backend.peers if self._backend else ()))
        await eventually(lambda: asyncio.all_tasks() == self._tasks)
        await eventually(lambda: open_sockets() == self._sockets)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the finished spans (of a name), in the order in which they started."""
        for outlet in self.gate._telemetry.recorder._outlets:
            outlet.processor.force_flush()
        spans = [span for span in self._exporter.get_finished_spans() if name in {"", span.name}]
        return sorted(spans, key=lambda span: span.start_time)

    def handshake(self) -> dict[str, object]:
        """Return the attributes of the one handshake."""
        (span,) = self.spans("websocket.handshake")
        return dict(span.attributes)


@asynccontextmanager
async def standing(folder: Path, upstream: Backend | int, policy: str = POLICY) -> AsyncIterator[Stand]:
    """Run a gate with this policy before a backend, or a port where none may be."""
    file = folder / "policy.yaml"
    file.write_text(policy)
    exporter = InMemorySpanExporter()
    backend = upstream if isinstance(upstream, Backend) else None
    url = parse_upstream(f"http://127.0.0.1:{backend.port if backend else upstream}")
    policy = load(str(file))
    gate = Gate(url, policy, telemetry(exporter), None, load_materials(policy, {}))
    public = socket.create_server(("127.0.0.1", 0))
    await gate.start(Listeners(public))
    stand = Stand(gate, public.getsockname()[1], backend, exporter)
    try:
        yield stand
    finally:  # upstreams, too: the gate would wait for their Close until it cuts them
        await vanish(*stand.clients, *(backend.peers if backend else ()))
        await gate.stop()


async def vanish(*peers: Peer) -> None:
    """End these connections without a word."""
    for peer in peers:
        if not peer.lost:  # asyncio's transports fail when they are flushed, closed and then aborted
            peer.transport.abort()
        await peer.gone()


def open_sockets() -> int:
    """Count this process's sockets."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:  # the folder's own
            continue
    return count


async def eventually(condition: Callable[[], object]) -> None:
    """Let the loop turn until it is so; the bound is the test's own."""
    while not condition():
        await asyncio.sleep(0)
