"""`python -m tests.hostile.backend PORT [attacked]`: echoes WebSocket messages, reads HTTP strictly.

`/counts` tells what it got: requests, upgrades, how many heads or bodies were ambiguous, how many requests
were smuggled. `/big` is answered with a megabyte, everything else with two bytes. The WebSocket side is that
of the library `websockets`, with its limit of 1 MiB: odd frames are judged as a real backend judges them.
Several may share a port; on SIGUSR1 one takes no more connections, and serves those that it has. The one that
is attacked takes no CPU that another wants.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import uvloop
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from proxy.edge.dial import accept_value
from tests.hostile.strict import AmbiguousError, Message, Strict
from tests.hostile.way import give_way

BIG = b"x" * (1 << 20)
counts = {"requests": 0, "upgrades": 0, "ambiguous": 0, "smuggled": 0}


class Connection(asyncio.Protocol):
    """One connection: strict HTTP, then frames."""

    def __init__(self) -> None:
        self._strict = Strict()
        self._waiting: list[Message] = []
        self._frames: Protocol | None = None
        self._paused = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._frames is not None:
            self._echo(data)
            return
        try:
            found = self._strict.feed(data)
        except AmbiguousError as error:
            counts["ambiguous"] += 1
            print(f"ambiguous: {error}"[:500], flush=True)
            self.transport.abort()
            return
        self._waiting += found
        counts["requests"] += len(found)
        counts["smuggled"] += sum(message.start[1] == b"/smuggled" for message in found)
        if self._strict.upgraded:
            self._upgrade(found[-1])
        elif self._strict.whole:
            for message in self._waiting:
                self.transport.write(response(message))
            self._waiting.clear()

    def _upgrade(self, message: Message) -> None:
        counts["upgrades"] += 1
        fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        accept = accept_value(message.all(b"sec-websocket-key")[0])
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + accept + b"\r\n\r\n")
        self._frames = Protocol(SERVER, state=OPEN, max_size=1 << 20)
        if rest := self._strict.rest:
            self._echo(rest)

    def _echo(self, data: bytes) -> None:
        assert self._frames is not None
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin:
                self._frames.send_text(event.data)
        for part in self._frames.data_to_send():
            if part:
                self.transport.write(part)
            else:
                self.transport.write_eof()
        if self._frames.close_expected():
            self.transport.close()

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def response(message: Message) -> bytes:
    """Answer a request."""
    body = {b"/counts": json.dumps(counts).encode(), b"/big": BIG}.get(message.start[1], b"ok")
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=4096, reuse_port=True)
    loop.add_signal_handler(signal.SIGUSR1, server.close)
    await loop.create_future()


if __name__ == "__main__":
    if sys.argv[2:] == ["attacked"]:
        give_way()
    uvloop.run(main(int(sys.argv[1])))
