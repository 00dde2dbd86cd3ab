"""A server that does with each WebSocket exactly what a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from proxy.core.frames import CLOSE, FrameWalker, close_frame
from proxy.probe.target import Target, accept_value, parse_target

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One connection after its upgrade request was read; `early`: bytes that came in the same read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes
    early: bytes

    def upgrade(self, *extra: str, accept: str | None = None) -> None:
        """Answer 101."""
        key = next(
            line.split(b":")[1].strip().decode()
            for line in self.request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Connection: keep-alive, Upgrade",
            "Upgrade: WebSocket",
            f"Sec-WebSocket-Accept: {accept or accept_value(key)}",
            *extra,
        ]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def until_close(self) -> None:
        """Read until the client's Close, and answer it."""
        walker = FrameWalker()
        while not any(notice.opcode == CLOSE for notice in walker.notices):
            if not (chunk := await self.reader.read(65536)):
                return
            walker.feed(chunk)
        self.writer.write(close_frame(1000))
        await self.until_gone()

    async def until_gone(self) -> None:
        """Read until the client closes the connection."""
        while await self.reader.read(65536):
            pass


@dataclass
class Scripted:
    """The server: what it was asked, and how many connections it had at once at most."""

    target: Target
    requests: list[bytes] = field(default_factory=list)
    now: int = 0
    most: int = 0


@contextlib.asynccontextmanager
async def serve(script: Script, path: str = "/ws") -> AsyncIterator[Scripted]:
    """Run `script` for each connection on a free port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.now += 1
        server.most = max(server.most, server.now)
        try:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (chunk := await reader.read(65536)):
                    return
                data += chunk
            request, _, early = data.partition(b"\r\n\r\n")
            server.requests.append(request)
            await script(Peer(reader, writer, request, early))
        except OSError:
            pass
        finally:
            server.now -= 1
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = Scripted(parse_target(f"ws://127.0.0.1:{port}{path}"))
    try:
        yield server
    finally:
        listener.close()
