"""Starts real servers as subprocesses, waits until they take connections, and stops them by pid.

Each function returns a running `Server`, a context manager that stops it:

    with uvicorn(ws="wsproto") as backend, gate(backend.url) as front:
        ...

What a server writes is kept: `server.log()` is all of it since it was ready, the backend's own error log.
A missing tool raises `MissingToolError` with the reason; tests skip for it, or fail when `CI=true`.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node"
START_S = 30.0
STOP_S = 10.0
STEP_S = 0.01
UVICORN_FLAVOURS = ("websockets", "websockets-sansio", "wsproto")


class MissingToolError(Exception):
    """A tool is not on this machine; the message says which and how to get it."""


def installed(tool: str) -> str:
    """Return the path of a program, those of administrators included. MissingToolError without it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    if not (found := shutil.which(tool, path=path)):
        raise MissingToolError(f"{tool} is not installed")
    return found


def may_open(descriptors: int = 20_000) -> int:
    """Raise our own limit of open files (children inherit it) towards `descriptors`; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return soft


def free_port() -> int:
    """Return a port that nobody listens on, below the range that outgoing connections take theirs from."""
    dice = random.SystemRandom()
    for _ in range(200):
        port = dice.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def environment(**extra: str) -> dict[str, str]:
    """Return our environment without what configures the gate or its telemetry, plus `extra`."""
    ours = ("READYGATE_", "OTEL_", "K_SERVICE", "KUBERNETES_", "ENVIRONMENT", "ENV", "PORT", "PYTEST_", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"} | extra


@dataclass
class Server:
    """A running server. `log_from`: where its log starts to count. `stop()` may be called twice."""

    name: str
    host: str
    port: int
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    unix: str = ""
    scheme: str = "http"
    admin_port: int = 0
    log_from: tuple[int, int] = (0, 0)
    _room: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def url(self) -> str:
        return f"unix:{self.unix}" if self.unix else f"{self.scheme}://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Return what it wrote to stdout and stderr since it was ready; whole lines only, while it runs."""
        texts, running = [], self.process.poll() is None
        for path, start in zip((self.stdout, self.stderr), self.log_from, strict=True):
            with path.open("rb") as file:
                file.seek(start)
                told = file.read()
            if running:  # a line may be read while it is written
                told = told[: told.rfind(b"\n") + 1]
            texts.append(told.decode(errors="replace"))
        return "".join(texts)

    def log_lines(self) -> int:
        """Return how many lines that are not empty it wrote since it was ready."""
        return sum(bool(line.strip()) for line in self.log().splitlines())

    def mark(self) -> None:
        """Let the log count from here."""
        self.log_from = (self.stdout.stat().st_size, self.stderr.stat().st_size)

    def wait_for_log(self, matches: Callable[[str], object], within_s: float = START_S) -> str:
        """Wait until the log (all of it, as one text) matches; return it. TimeoutError has the log."""
        until = time.monotonic() + within_s
        while not matches(text := self.log()):
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name}: the log never said it:\n{text[-4000:]}")
            time.sleep(STEP_S)
        return text

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._room.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    name: str, command: Sequence[str], *, port: int = 0, unix: str = "", env: dict[str, str] | None = None
) -> Server:
    """Start `command` with its output in files; it is not yet ready when this returns."""
    with contextlib.ExitStack() as stack:
        room = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="readygate-", ignore_cleanup_errors=True))
        )
        out, err = room / "stdout", room / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env or environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return Server(name, "127.0.0.1", port, process, out, err, unix, _room=stack.pop_all())


def ready(server: Server, within_s: float = START_S) -> Server:
    """Wait until it takes connections; from then on its log counts. RuntimeError if it ended instead."""
    until = time.monotonic() + within_s
    while not takes_connections(server):
        if server.process.poll() is not None or time.monotonic() > until:
            text = server.log()
            server.stop()
            raise RuntimeError(f"{server.name} did not start:\n{text[-4000:]}")
        time.sleep(STEP_S)
    server.mark()
    return server


def takes_connections(server: Server) -> bool:
    """Whether something accepts at its address."""
    family = socket.AF_UNIX if server.unix else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex(server.unix or (server.host, server.port)) == 0


# The backends. `port` may be chosen before; `wait=False` returns at once.


def uvicorn(ws: str = "websockets-sansio", *, port: int = 0, unix: str = "", wait: bool = True) -> Server:
    """`chat.py` on uvicorn with one of its WebSocket implementations."""
    port = port or free_port()
    where = ["--uds", unix] if unix else ["--port", str(port)]
    quiet = ["--log-level", "warning", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", "tests.backends.chat:app", "--ws", ws, *where, *quiet]
    server = start(f"uvicorn/{ws}", command, port=port, unix=unix)
    return ready(server) if wait else server


def hypercorn(*, port: int = 0) -> Server:
    """`chat.py` on hypercorn."""
    port = port or free_port()
    quiet = ["--log-level", "WARNING", "--error-logfile", "-"]
    command = [
        sys.executable,
        "-m",
        "hypercorn",
        "tests.backends.chat:app",
        "--bind",
        f"127.0.0.1:{port}",
        *quiet,
    ]
    return ready(start("hypercorn", command, port=port))


def daphne(*, port: int = 0) -> Server:
    """`chat.py` on daphne."""
    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "daphne",
        "-v",
        "0",
        "-b",
        "127.0.0.1",
        "-p",
        str(port),
        "tests.backends.chat:app",
    ]
    return ready(start("daphne", command, port=port))


def aiohttp(*, port: int = 0) -> Server:
    """`aiohttp_app.py`."""
    port = port or free_port()
    return ready(start("aiohttp", [sys.executable, "-m", "tests.backends.aiohttp_app", str(port)], port=port))


def library(*, port: int = 0, certificate: str = "") -> Server:
    """`library_app.py`, over TLS when given a PEM file with certificate and key."""
    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "tests.backends.library_app",
        str(port),
        *([certificate] if certificate else []),
    ]
    server = ready(start("websockets", command, port=port))
    server.scheme = "https" if certificate else "http"
    return server


def node(*, port: int = 0) -> Server:
    """`node/server.js`."""
    if not shutil.which("node"):
        raise MissingToolError("node is not installed")
    if not (NODE / "node_modules" / "ws").is_dir():
        raise MissingToolError("the npm package ws is not installed: run `npm ci` in tests/backends/node")
    port = port or free_port()
    return ready(start("node", ["node", str(NODE / "server.js"), str(port)], port=port))


def flaky(*, port: int = 0, after_s: float = 0.0, seed: int = 1, share: float = 0.25) -> Server:
    """`flaky.py`; with `after_s` this returns at once, before anything listens."""
    port = port or free_port()
    options = ["--after", str(after_s), "--seed", str(seed), "--share", str(share)]
    server = start("flaky", [sys.executable, "-m", "tests.backends.flaky", str(port), *options], port=port)
    return server if after_s else ready(server)


BACKENDS: dict[str, Callable[..., Server]] = {
    **{f"uvicorn-{ws}": partial(uvicorn, ws) for ws in UVICORN_FLAVOURS},
    "hypercorn": hypercorn,
    "daphne": daphne,
    "aiohttp": aiohttp,
    "websockets": library,
    "node": node,
}
