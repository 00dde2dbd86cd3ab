"""The ways to end a transport."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_LINGER_0 = struct.pack("ii", 1, 0)


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
