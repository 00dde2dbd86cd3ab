"""A client as cheap as one can be: opens a connection, says one message, hears it back, leaves or stays."""

from __future__ import annotations

import asyncio

from tests.backends import wire
from tests.backends.flaky import encode, take_frame
from tests.bench.stand import Address

REQUEST = wire.upgrade("/ws/echo")
HELLO = wire.binary(bytes(64))
CLOSE = wire.close(1000)


class Visit(asyncio.Protocol):
    """`served` is done when the message came back; `gone` when the connection has ended.

    `stay`: keep it open (pings are answered) until `leave`. `request`: what it comes with.
    """

    def __init__(self, *, stay: bool, request: bytes = REQUEST) -> None:
        loop = asyncio.get_running_loop()
        self.served: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._stay, self._request = stay, request
        self._open = False
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._fail(ConnectionError(head.partition(b"\r\n")[0].decode(errors="replace")))
                return
            self._open, self._buffer = True, rest
            self.transport.write(HELLO)
        while frame := take_frame(self._buffer):
            self._take(*frame)

    def _take(self, first: int, payload: bytes) -> None:
        if first == wire.PING:
            self.transport.write(encode(wire.PONG, payload, bytes(4)))
        elif first == wire.CLOSE:
            self.transport.close()
        elif first == wire.BINARY:
            if not self.served.done():
                self.served.set_result(None)
            if not self._stay:
                self.leave()

    def leave(self) -> None:
        """Begin the closing handshake. With both Close frames we close: Envoy waits for that."""
        if not self.transport.is_closing():
            self.transport.write(CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("closed before it was served"))
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.served.done():
            self.served.set_exception(error)
            self.transport.abort()


async def come(address: Address, *, stay: bool, request: bytes = REQUEST) -> Visit:
    """Connect and be served. Raises ConnectionError or another OSError when that failed."""
    loop = asyncio.get_running_loop()
    _, visit = await loop.create_connection(lambda: Visit(stay=stay, request=request), *address)
    await visit.served
    return visit


async def come_and_go(address: Address, request: bytes = REQUEST) -> None:
    """Connect, be served, and leave properly."""
    visit = await come(address, stay=False, request=request)
    await visit.gone


async def come_many(address: Address, count: int, at_once: int) -> list[Visit]:
    """Let many come and stay, some at once."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> Visit:
        async with slots:
            return await come(address, stay=True)

    async with asyncio.TaskGroup() as group:
        visits = [group.create_task(one()) for _ in range(count)]
    return [visit.result() for visit in visits]


async def leave_all(visits: list[Visit]) -> None:
    """Let all leave, and wait until they have."""
    for visit in visits:
        visit.leave()
    await asyncio.gather(*(visit.gone for visit in visits))
