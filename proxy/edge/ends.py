"""The ways in which a transport ends."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_LINGER_0: Final = struct.pack("ii", 1, 0)
_READ_BYTES: Final = 65536


def end(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, within_s: float
) -> asyncio.TimerHandle:
    """Close when what was written is flushed; abort if that takes too long. Return the timer, to cancel."""
    transport.close()
    return loop.call_later(within_s, transport.abort)


def reset(transport: asyncio.Transport) -> None:
    """End at once, so that the peer gets a TCP reset (RFC 9293 3.10.5) where there is TCP."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    transport.abort()


def last_words(transport: asyncio.Transport) -> bytes:
    """Return what the kernel still has of a connection that broke while we wrote to it.

    A peer that speaks and resets at once makes our next write fail, and the loop then ends the transport
    without reading what came before the reset. Call it in `connection_lost`, where the descriptor is still
    open. Of a TLS connection nothing can be had.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("ssl_object") is not None:
        return b""
    words = bytearray()
    with contextlib.suppress(OSError, ValueError):  # the reset, or closed
        while data := os.read(sock.fileno(), _READ_BYTES):
            words += data
    return bytes(words)
