"""One direction of a relayed connection, and how it can be made to misbehave."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from typing import Protocol

from tests.chaos.boundary import Boundary

TRICKLE_HIGH = 64 * 1024
FLUSH_S = 0.02  # a reset discards what the loop has not written yet


class Way(enum.Enum):
    """A direction of a link."""

    TO_TARGET = "to target"
    TO_CLIENT = "to client"


class How(enum.Enum):
    """How a connection ends whose frame was cut."""

    END = "end"
    RESET = "reset"


class Owner(Protocol):
    """The link that a side belongs to."""

    def made(self, side: Side) -> None:
        """Note that this side is connected."""

    def lost(self, side: Side, exc: Exception | None) -> None:
        """Note that this side's connection is over."""


class Side(asyncio.Protocol):
    """One socket of a link. What it says goes through its `stream`."""

    def __init__(self, link: Owner) -> None:
        self.link = link
        self.gone = False
        self.stream: Stream
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.made(self)

    def data_received(self, data: bytes) -> None:
        self.stream.said(data)

    def eof_received(self) -> bool:
        self.stream.ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.link.lost(self, exc)

    def pause_writing(self) -> None:
        self.stream.opposite.hold(on=True)

    def resume_writing(self) -> None:
        self.stream.opposite.hold(on=False)

    def reset(self) -> None:
        """Vanish with a TCP reset; what the loop has not written yet is not."""
        if not self.gone:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class Stream:
    """One direction of a link: what `source` says goes to `sink`, in the manner of the moment."""

    def __init__(self, source: Side, sink: Side) -> None:
        self.source, self.sink = source, sink
        self.opposite: Stream
        self.boundary = Boundary()
        self.passed = 0
        self.frozen = self.trickling = self.muted = self.eof = False
        self._cut: tuple[How, float] | None = None
        self._waiting = bytearray()
        self._lost = self._ticking = self._held = False
        self._begun = False  # is the sink there?

    # -- what the source does -------------------------------------------------------------------------------

    def said(self, data: bytes) -> None:
        begun = self.boundary.feed(data)
        if self.muted:
            return
        at = self._place(begun, len(data)) if self._cut and self._begun else None
        if at is not None:
            self._cut_behind(data[:at])
        elif not self._begun or self.frozen or self.trickling or self._waiting:
            self._waiting += data
            self._flush()
        else:
            self._write(data)

    def ended(self) -> None:
        """Pass the end of the source on, behind what waits."""
        self.eof = True
        if self.muted:
            self.source.transport.close()
        else:
            self._flush()

    def lost(self, exc: Exception | None) -> None:
        """Pass the loss of the source on, behind what it said; nobody hears of it through a frozen stream."""
        if self.frozen:
            self._lost = True
        elif self.muted:
            return
        elif exc is not None:
            asyncio.get_running_loop().call_later(FLUSH_S, self.sink.reset)
        else:
            self.sink.transport.close()

    # -- how it is passed on --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Pass on what waits: the sink is there."""
        self._begun = True
        self._flush()

    def freeze(self) -> None:
        self.frozen = True
        self._regulate()

    def thaw(self) -> None:
        self.frozen = False
        self._regulate()
        self._flush()
        if self._lost:
            self.sink.reset()

    def trickle(self, *, on: bool) -> None:
        self.trickling = on
        self._flush()

    def cut(self, how: How, depth: float) -> None:
        """Cut the next data frame behind this share of its length (0 to 1), and end there."""
        self._cut = how, depth

    def hold(self, *, on: bool) -> None:
        """Read no more of the source while the sink is slow."""
        self._held = on
        self._regulate()

    def _regulate(self) -> None:
        transport = self.source.transport
        if transport.is_closing() or self.eof:
            return
        if self.frozen or self._held or len(self._waiting) > TRICKLE_HIGH:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _write(self, data: bytes) -> None:
        if not self.sink.transport.is_closing():
            self.passed += len(data)
            self.sink.transport.write(data)

    def _flush(self) -> None:
        """Write what waits: all of it, or one byte now and the next in another turn of the loop."""
        if not self._begun or self.frozen or self.muted or self._ticking:
            return
        if self._waiting:
            count = 1 if self.trickling else len(self._waiting)
            self._write(bytes(self._waiting[:count]))
            del self._waiting[:count]
            self._regulate()
        if self._waiting:
            self._ticking = True
            asyncio.get_running_loop().call_soon(self._tick)
        elif self.eof:
            self._pass_eof()

    def _tick(self) -> None:
        self._ticking = False
        self._flush()

    def _pass_eof(self) -> None:
        if not self.sink.transport.is_closing():
            self.sink.transport.write_eof()
        if self.opposite.eof and not self.opposite._waiting:
            self.sink.transport.close()
            self.source.transport.close()

    # -- cuts -----------------------------------------------------------------------------------------------

    def _place(self, begun: list[tuple[int, int, int]], size: int) -> int | None:
        """Return behind which byte of the chunk to cut, inside a data frame; None: not in this chunk."""
        for offset, length, first in begun:
            if not first & 0x08:
                inside = min(1 + int(self._cut[1] * (length - 1)), length - 1)
                return min(max(offset + inside, 0), size)
        return None

    def _cut_behind(self, torso: bytes) -> None:
        """Pass the torso on, then end the sink that way. The source is reset: its connection broke."""
        how, _ = self._cut
        self._write(bytes(self._waiting) + torso)
        self._waiting.clear()
        self.muted = self.opposite.muted = True
        loop = asyncio.get_running_loop()
        if how is How.RESET:
            loop.call_later(FLUSH_S, self.sink.reset)
        elif not self.sink.transport.is_closing():
            self.sink.transport.write_eof()
        loop.call_later(FLUSH_S, self.source.reset)
