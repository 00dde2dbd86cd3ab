"""Starts the socket.io server of `node/socketio.js`, and real clients that reconnect."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping

from tests.backends.launch import NODE, MissingToolError, Server, free_port, ready, start


def socketio(*, port: int = 0) -> Server:
    """`node/socketio.js`: socket.io, and a plain WebSocket endpoint /ws/echo."""
    port = port or free_port()
    return ready(start("socket.io", [*node("socketio.js"), str(port)], port=port))


def clients(kind: str, urls: Mapping[str, str]) -> Server:
    """Clients of one kind, by name. Their log is what they lived through; the process ends by itself.

    `websockets` is Python's and needs no Node; the other kinds are those of `node/clients.js`.
    """
    in_python = kind.startswith("websockets")
    command = [sys.executable, "-m", "tests.clients.iterator"] if in_python else node("clients.js")
    return start(kind, [*command, kind, *(f"{name}={url}" for name, url in urls.items())])


def told(log: str, event: str) -> list[str]:
    """The names of clients to which this happened, each time: `opened`, `closed 1012`, `left` ..."""
    words = event.split()
    lines = (line.split() for line in log.splitlines())
    return [line[0] for line in lines if line[1 : 1 + len(words)] == words]


def wait_until_told(server: Server, event: str, names: Iterable[str]) -> None:
    """Wait until this happened to all of them. AssertionError has the log, if they end before it did."""

    def all_of_them(log: str) -> bool:
        missing = set(names) - set(told(log, event))
        if missing and server.process.poll() is not None:
            missing -= set(told(server.log(), event))
            assert not missing, f"{server.name}: not {event}: {sorted(missing)}\n{server.log()}"
        return not missing

    server.wait_for_log(all_of_them)


def node(script: str) -> list[str]:
    """The command that runs a script of `node/`; MissingToolError without Node or its packages."""
    if not shutil.which("node"):
        raise MissingToolError("node is not installed")
    if not (NODE / "node_modules" / "socket.io").is_dir():
        raise MissingToolError("npm packages are missing: run `npm ci` in tests/backends/node")
    return ["node", str(NODE / script)]
