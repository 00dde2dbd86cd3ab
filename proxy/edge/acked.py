"""Has all that we wrote reached the peer's kernel? Linux knows; where it does not tell, we do not ask."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def all_acked(transport: asyncio.Transport) -> bool:
    """Return whether nothing written to `transport` is unsent or unacknowledged."""
    return unacked(transport) == 0


def unacked(transport: asyncio.Transport) -> int | None:
    """Return how many bytes written to `transport` are unsent or unacknowledged; None when it is closed.

    `SIOCOUTQ` (tcp(7): "the amount of unsent data in the socket send queue"; Linux counts what is not acked
    yet, too: `write_seq - snd_una`) gives TCP_INFO's two figures in one call, and works for Unix sockets.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    try:
        return transport.get_write_buffer_size() + _queued(sock.fileno())
    except (OSError, ValueError):  # closed meanwhile: a bad file descriptor, or -1
        return None


def measurable() -> bool:
    """Try once, at start, whether this kernel tells: some sandboxes always say 0.

    A connection of our own is filled until it takes no more; then the queue must not look empty.
    """
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(listener.getsockname()) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sender.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1024):
                    sender.send(bytes(65536))
            return _queued(sender.fileno()) > 0
    return False


def _queued(fileno: int) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(fileno, termios.TIOCOUTQ, bytes(4)))[0]
    return size
