"""What a worker was given by its supervisor (`supervisor.py`), and how it answers."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.address import Address
from proxy.workers.control import Channel, line

# Environment variables.
NUMBER: Final = "READYGATE_WORKER"
CONTROL_FD: Final = "READYGATE_WORKER_CONTROL_FD"
POLICY: Final = "READYGATE_WORKER_POLICY"
POLICY_NAME: Final = "READYGATE_WORKER_POLICY_NAME"
PORT: Final = "READYGATE_WORKER_PORT"
ADMIN: Final = "READYGATE_WORKER_ADMIN"


def worker_number() -> int | None:
    """Return this worker's number, from 1; None when this process is no worker."""
    text = os.environ.get(NUMBER)
    return int(text) if text else None


def worker_socket(host: str, port: int) -> socket.socket:
    """Return a bound, not yet listening socket that shares its port. Raise OSError.

    In a worker `port` 0 stands for the port that the supervisor holds.
    """
    return bound_socket(host, port or int(os.environ.get(PORT, "0")), share=True)


def worker_admin_socket() -> socket.socket | None:
    """Return the bound Unix socket of this worker's admin listener; None when there is none. Raise OSError.

    Serve it by `loop.create_unix_server(factory, sock=...)`.
    """
    path = os.environ.get(ADMIN)
    if not path:
        return None
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    return sock


def worker_policy() -> tuple[str, str] | None:
    """Return the file of the policy that this worker is to begin with, and its name; None: the usual one."""
    file = os.environ.get(POLICY)
    return (file, os.environ.get(POLICY_NAME, "")) if file else None


def announce_ready() -> None:
    """Tell the supervisor that this worker serves; in any other process do nothing. Call it once."""
    text = os.environ.get(CONTROL_FD)
    if text:
        with suppress(OSError):  # the supervisor has gone, and its signal is on the way
            os.write(int(text), line("ready"))


async def supervisor_channel() -> Channel:
    """Return this worker's end of the channel to its supervisor. Call it once, after `announce_ready`."""
    return await Channel.over(socket.socket(fileno=int(os.environ[CONTROL_FD])))


def bound_socket(host: str, port: int, *, share: bool, listen: bool = False) -> socket.socket:
    """Return a bound socket. Raise OSError, whose text names the address.

    `share`: others that share may bind the same port. `listen` at once: two may bind a port while neither
    listens, and uvloop tells nobody when it cannot listen later.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # What is left of a gate that has ended (TIME_WAIT) keeps nobody off, if both sides say so.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        if listen:
            sock.listen()
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{Address(host, port)}: {error.strerror or error}") from None
    return sock
