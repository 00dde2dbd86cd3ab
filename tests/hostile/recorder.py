"""A backend that writes down what it gets, byte for byte, and reads it as strictly as can be.

It runs in a thread of its own, so that one serves all tests of a module. Upgrades are accepted and echoed.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.core.frames import CLOSE, mask_payload
from proxy.edge.dial import accept_value
from tests.hostile.strict import AmbiguousError, Message, Strict

WAIT_S = 10.0
CLOSED = 0x80 | CLOSE
# Closed behind it: a connection that the gate keeps for the next request would outlive the test.
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Heard(asyncio.Protocol):
    """One connection: `raw` is all that came, `messages` the requests in it, `whole` how many have ended."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._strict = Strict()
        self.raw = bytearray()
        self.messages: list[Message] = []
        self.whole = 0
        self.lost = False
        self.ambiguous: AmbiguousError | None = None
        self.transport: asyncio.Transport

    @property
    def targets(self) -> list[bytes]:
        return [message.start[1] for message in self.messages]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        with self._recorder.changed:
            self._recorder.connections.append(self)

    def data_received(self, data: bytes) -> None:
        with self._recorder.changed:
            self.raw += data
            if not self._strict.upgraded:
                self._read(data)
            elif ends_with_close(data):
                self.transport.close()
            self._recorder.changed.notify_all()

    def _read(self, data: bytes) -> None:
        try:
            self.messages += self._strict.feed(data)
        except AmbiguousError as error:
            self.ambiguous = error
            self.transport.abort()
            return
        if self._strict.upgraded:
            self.transport.write(self._recorder.upgraded(self.messages[-1]))
        elif self._strict.whole:
            for message in self.messages[self.whole :]:
                self.transport.write(self._recorder.answers(message))
            self.whole = len(self.messages)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        with self._recorder.changed:
            self.lost = True
            self._recorder.changed.notify_all()


class Recorder:
    """What all connections said; `changed` guards it. `answers` makes a request's response."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.connections: list[Heard] = []
        self.answers: Callable[[Message], bytes] = lambda _: OK
        self.port = 0

    def upgraded(self, message: Message) -> bytes:
        """Return a 101; what follows is written down as it comes."""
        fields = [b"Upgrade: websocket", b"Connection: Upgrade"]
        fields.append(b"Sec-WebSocket-Accept: " + accept_value(message.all(b"sec-websocket-key")[0]))
        return b"HTTP/1.1 101 Switching Protocols\r\n" + b"\r\n".join(fields) + b"\r\n\r\n"

    def targets(self) -> list[bytes]:
        """Return what was asked for, over all connections, in the order of each."""
        with self.changed:
            return [target for heard in self.connections for target in heard.targets]

    def until(self, found: Callable[[list[Heard]], object]) -> object:
        """Wait until `found` says something true of the connections; return that."""
        with self.changed:
            value = self.changed.wait_for(lambda: found(self.connections), WAIT_S)
        assert value, [bytes(heard.raw[-300:]) for heard in self.connections]
        return value

    def forget(self) -> None:
        """Begin anew; connections that are pooled are ended, so that the next test has its own."""
        with self.changed:
            for heard in self.connections:
                heard._recorder.loop.call_soon_threadsafe(heard.transport.abort)
            self.changed.wait_for(lambda: all(heard.lost for heard in self.connections), WAIT_S)
            self.connections.clear()
        self.answers = lambda _: OK

    @contextmanager
    def listening(self) -> Iterator[Recorder]:
        """Serve in a thread until the end."""
        self.loop = asyncio.new_event_loop()
        server = self.loop.run_until_complete(self.loop.create_server(lambda: Heard(self), "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(server.close)
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            for heard in self.connections:
                heard.transport.abort()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()


def ends_with_close(data: bytes) -> bool:
    """Whether the last thing in it is a masked Close frame: the gate writes its own in one piece.

    Where the chunk is a row of whole frames, they tell. Where it is not (odd frames; the middle of one), what
    looks like a Close with a code at its end is taken for one.
    """
    at = last = 0
    while at < len(data) and (size := whole(data, at)):
        at, last = at + size, at
    if at == len(data):
        return bool(data) and data[last] == CLOSED
    return any(
        data[at] == CLOSED and at + whole(data, at) == len(data) and coded(data[at:])
        for at in range(max(len(data) - 131, 0), len(data) - 7)
    )


def whole(data: bytes, at: int) -> int:
    """Return how long the short masked frame there is; 0 if there is none."""
    length = data[at + 1] if at + 1 < len(data) else 0
    size = 6 + (length & 0x7F)
    return size if 0x80 <= length < 0xFE and at + size <= len(data) else 0


def coded(close: bytes) -> bool:
    """Whether this masked Close has a code that may be sent (RFC 6455 section 7.4)."""
    code = int.from_bytes(mask_payload(close[6:8], close[2:6]), "big")
    return 1000 <= code < 1015 or 3000 <= code < 5000


def statuses(raw: bytes) -> list[int]:
    """Return the statuses of the responses in what a client got."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", raw)]
