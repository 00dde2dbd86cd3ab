"""Long messages between plain sockets: the kernel moves their payload from one to the other (splice(2)).

What a relay costs for a long message is the copying. `Spliced` stands before a relay while long chunks come.
It reads a few KB at a time, so that the relay walks every header; when these end inside a frame, the payload
behind them goes through a pipe to the other leg's socket, and is never copied. What that socket does not take
is read back and written as ever, with the backpressure that this has.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.edge.relay import Relay

LONG_CHUNK: Final = 49152  # bytes: from here on two more system calls cost less than two copies
_HEAD: Final = 4096  # read at a time, and copied: one page, which a pipe takes whole
_MOST: Final = 262144  # moved at a time; so much at most has to be read back for a peer that is slow
_SHORT: Final = 16384  # moving less than this is not worth its system calls,
_SHORTS: Final = 4  # and after so many times in succession the relay gets its place back
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})

_mine: Final = threading.local()  # `pipe`: this thread's


class Pipe:
    """A pipe that is empty except within `carry`. `usable`: it is, and this kernel can do what is wanted."""

    __slots__ = ("_into", "_out", "usable")

    def __init__(self) -> None:
        self._out, self._into = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._into, False)
        self.usable = True
        with contextlib.suppress(OSError):  # a user's pipes have a limit; then less is moved at a time
            fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, _MOST)

    def carry(self, head: bytes, source: int, most: int, sink: int) -> tuple[int, bytes, OSError | None]:
        """Send `head`, and behind it at most so many bytes of the socket `source`, to the socket `sink`.

        Return how many bytes of the source's that were, which of all were not taken, how the source broke.
        """
        self.usable = False  # for good, should anything be left in it
        moved, broken, able = 0, None, True
        left = os.write(self._into, head)
        try:
            moved = os.splice(source, self._into, min(most, _MOST), flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:  # nothing there
            pass
        except OSError as error:
            able = error.errno not in _CANNOT
            broken = error if able else None
        left += moved
        unsent = b""
        try:
            while left and (taken := os.splice(self._out, sink, left, flags=os.SPLICE_F_NONBLOCK)):
                left -= taken
        except OSError as error:  # it takes no more: whoever writes the rest finds out why
            able = able and error.errno not in _CANNOT
        while left:
            rest = os.read(self._out, left)
            left -= len(rest)
            unsent += rest
        self.usable = able
        return moved, unsent, broken


def spliceable(*transports: asyncio.Transport) -> bool:
    """Return whether the kernel can move payload between these: they are sockets, and without TLS."""
    try:
        usable = hasattr(os, "splice") and _pipe().usable
    except OSError:  # no descriptor left
        return False
    return usable and all(
        transport.get_extra_info("socket") is not None and transport.get_extra_info("ssl_object") is None
        for transport in transports
    )


def _pipe() -> Pipe:
    pipe: Pipe | None = getattr(_mine, "pipe", None)
    if pipe is None:
        pipe = _mine.pipe = Pipe()
    return pipe


class Spliced(asyncio.BufferedProtocol):
    """Stands before `relay` on its transport and writes for it, until what comes is long no more."""

    __slots__ = (
        "_broken", "_buffer", "_filled", "_moved", "_pipe", "_relay", "_shorts", "_sink", "_source", "_to",
    )  # fmt: skip

    def __init__(self, relay: Relay, to: asyncio.Transport) -> None:
        """Take the relay's place at once."""
        self._relay = relay
        self._to = to
        self._source: int = relay.transport.get_extra_info("socket").fileno()
        self._sink: int = to.get_extra_info("socket").fileno()
        self._pipe = _pipe()
        self._buffer = bytearray(_HEAD)
        self._filled = False  # what is walked just now ends where the socket's next bytes begin
        self._moved = 0
        self._shorts = 0
        self._broken: OSError | None = None
        relay.write_by(self.write)
        relay.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - it would be 64 KiB, always
        """Have a few KB read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Let the relay walk what was read; it calls `write`."""
        self._moved = 0
        self._filled = nbytes == _HEAD
        self._relay.data_received(bytes(self._buffer) if self._filled else bytes(self._buffer[:nbytes]))
        self._filled = False
        if self._moved >= _SHORT:
            self._shorts = 0
            return
        self._shorts += 1
        if self._shorts >= _SHORTS:
            self._step_aside()

    def write(self, data: bytes) -> None:
        """Write what the relay passes on, and behind it the payload that has come with it."""
        to, walker = self._to, self._relay.walker
        rest = walker.unseen if self._filled else 0
        if not rest or not self._pipe.usable or to.get_write_buffer_size() or to.is_closing():
            to.write(data)
            return
        self._moved, unsent, self._broken = self._pipe.carry(data, self._source, rest, self._sink)
        walker.skip(self._moved)
        if unsent:
            to.write(unsent)
        if self._broken is not None:
            self._relay.transport.abort()

    def eof_received(self) -> bool:
        """Hand on."""
        return self._relay.eof_received()

    def pause_writing(self) -> None:
        """Hand on."""
        self._relay.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        self._relay.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on; a reset that was noticed here is noticed nowhere else."""
        self._relay.connection_lost(exc or self._broken)

    def _step_aside(self) -> None:
        """Give the relay its place back, unless somebody else has it."""
        transport = self._relay.transport
        if transport.get_protocol() is self:
            transport.set_protocol(self._relay)
        self._relay.write_by(self._to.write)
