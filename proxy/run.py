"""`readygate run`: from options to a listening gate, and from a signal to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import uvloop

from proxy import hangup
from proxy.admin.access import TOKEN_VARIABLE, AdminAccess
from proxy.control import obey
from proxy.edge.upstream import Upstream, parse_upstream
from proxy.guard import raise_descriptor_limit
from proxy.policy import detect
from proxy.policy.load import examine
from proxy.reload import Chosen, Reloader
from proxy.server import Gate, Listeners, StartError
from proxy.telemetry import logs
from proxy.workers import (
    WorkerOptions,
    announce_ready,
    supervise,
    supervisor_channel,
    worker_admin_socket,
    worker_number,
    worker_policy,
    worker_socket,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Mapping, Sequence

    from proxy.policy import Policy

_USAGE: Final = 2
_NOT_STARTED: Final = 3
_MAX_PORT: Final = 65535
_MAX_WORKERS: Final = 256
_ON: Final = ("on", "1", "true", "yes")
_OFF: Final = ("off", "0", "false", "no", "")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0: any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, flag: str) -> Self:
        """Parse `HOST:PORT`, `[IPv6]:PORT` or `:PORT`. Raise ValueError with one clear line."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > _MAX_PORT or (":" in host and host[0] != "["):
            raise ValueError(f"{flag} {text!r}: expected HOST:PORT, with a port from 0 to {_MAX_PORT}")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - `:PORT` means every interface

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `readygate run` was asked for, parsed. `policy` "" means: chosen from the environment."""

    upstream: Upstream
    listen: Address
    admin: Address | None
    admin_hosts: str
    admin_access: AdminAccess
    policy: str
    workers: int
    tls_cert: str
    tls_key: str
    watch: bool
    trace_failures: bool = False

    @classmethod
    def parse(cls, args: argparse.Namespace, environ: Mapping[str, str]) -> Self:
        """Parse the flags. Raise ValueError with one clear line."""
        if not args.upstream:
            raise ValueError(
                "--upstream URL (or READYGATE_UPSTREAM) is required, such as http://127.0.0.1:8000"
            )
        if not args.workers.isdecimal() or not 1 <= int(args.workers) <= _MAX_WORKERS:
            raise ValueError(f"--workers {args.workers!r}: expected a number from 1 to {_MAX_WORKERS}")
        if args.tls_key and not args.tls_cert:
            raise ValueError("--tls-key needs --tls-cert")
        watch = _switch("READYGATE_WATCH", args.watch)
        trace_failures = _switch("READYGATE_TRACE_FAILURES", args.trace_failures)
        trace_url = environ.get("READYGATE_TRACE_URL", "")
        if trace_url and not (trace_url.startswith(("http://", "https://")) and "{trace_id}" in trace_url):
            expected = "an http or https URL with {trace_id} in it"
            raise ValueError(f"READYGATE_TRACE_URL {trace_url!r}: expected {expected}")
        admin = None if args.admin.lower() == "off" else Address.parse(args.admin, "--admin")
        at = admin.host if admin is not None else "localhost"
        return cls(
            upstream=parse_upstream(args.upstream),
            listen=Address.parse(args.listen, "--listen"),
            admin=admin,
            admin_hosts=args.admin_hosts,
            admin_access=AdminAccess.parse(at, args.admin_hosts, environ.get(TOKEN_VARIABLE, "")),
            policy=args.policy or detect(environ),
            workers=int(args.workers),
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            watch=watch,
            trace_failures=trace_failures,
        )

    def words(self) -> list[str]:
        """Return the command-line words that ask a worker for the same. Watching is its supervisor's."""
        flags = {
            "--upstream": str(self.upstream),
            "--listen": str(self.listen),
            "--admin": "off" if self.admin is None else str(self.admin),
            "--admin-hosts": self.admin_hosts,
            "--policy": self.policy,
            "--workers": str(self.workers),
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
        }
        words = [word for flag, value in flags.items() if value for word in (flag, value)]
        return [*words, "--trace-failures"] if self.trace_failures else words


def _switch(variable: str, text: str) -> bool:
    """Parse `on` or `off`. Raise ValueError with one clear line."""
    if text.lower() not in _ON + _OFF:
        raise ValueError(f"{variable} {text!r}: expected on or off")
    return text.lower() in _ON


def run(options: RunOptions, environ: Mapping[str, str]) -> int:
    """Serve until a signal ends it; return the exit code."""
    if worker_number() is not None:
        return _run_worker(options, environ)
    hangups = hangup.Hangups()
    reading = examine(options.policy)
    if reading.policy is None:
        return _fail("\n".join(map(str, reading.problems)), _USAGE)
    logs.setup(environ)
    raise_descriptor_limit()  # workers inherit it
    chosen = Chosen(options.policy, reading, hangups, options.watch)
    if options.workers > 1:
        return _finish(supervise(_worker_options(options, reading.policy), chosen))
    return _finish(_serve(options, chosen, environ))


def _run_worker(options: RunOptions, environ: Mapping[str, str]) -> int:
    hangup.ignore()  # its supervisor hears of changes
    reading = examine(*(worker_policy() or (options.policy,)))
    if reading.policy is None:
        return _fail("\n".join(map(str, reading.problems)), _USAGE)
    logs.setup(environ)
    return _finish(_work(options, reading.policy, environ))


def _finish(work: Coroutine[Any, Any, int]) -> int:
    """Do the work to its end; return the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except StartError as error:
        return _fail(f"readygate: {error}", _NOT_STARTED)
    finally:
        hangup.ignore()


def _worker_options(options: RunOptions, policy: Policy) -> WorkerOptions:
    admin = options.admin
    return WorkerOptions(
        argv=(sys.executable, "-m", "proxy", "run", *options.words()),
        host=options.listen.host,
        port=options.listen.port,
        admin=None if admin is None else (admin.host, admin.port),
        workers=options.workers,
        upstream=str(options.upstream),
        policy=policy.name,
        scheme="https" if options.tls_cert else "http",
        admin_access=options.admin_access,
    )


async def _serve(options: RunOptions, chosen: Chosen, environ: Mapping[str, str]) -> int:
    listeners = _listeners(options)
    gate = Gate.build(options.upstream, chosen.policy, environ, trace_failures=options.trace_failures)
    stop = _stop_on_signals()
    chosen.hangups.listen(stop.set)
    await gate.start(listeners)
    at = Address(options.listen.host, listeners.public.getsockname()[1])
    to = f"{options.upstream} (policy {chosen.policy.name})"
    scheme = "https" if listeners.tls else "http"
    print(f"readygate listening on {scheme}://{at} -> {to}", flush=True)  # noqa: T201 - part of the contract

    async def apply(policy: Policy) -> Sequence[str]:
        try:
            gate.switch(await gate.prepare(policy))
        except StartError as error:
            return [str(error)]
        return []

    async with Reloader(chosen, apply, gate.reloaded).running():
        await stop.wait()
    await gate.stop()
    return 0


async def _work(options: RunOptions, policy: Policy, environ: Mapping[str, str]) -> int:
    """Serve as one of several workers."""
    listeners = _worker_listeners(options)
    gate = Gate.build(options.upstream, policy, environ, trace_failures=options.trace_failures)
    stop = _stop_on_signals()
    await gate.start(listeners)
    announce_ready()  # its supervisor speaks when all are ready
    channel = await supervisor_channel()
    obeying = asyncio.create_task(obey(channel, gate, stop.set))
    await stop.wait()
    obeying.cancel()
    channel.close()
    await gate.stop()
    return 0


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stop, number)
    return stop


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)  # a second signal ends at once
    stop.set()


def _listeners(options: RunOptions) -> Listeners:
    public = _bound(options.listen)
    admin = _bound(options.admin) if options.admin is not None else None
    return Listeners(public, admin, _server_tls(options), options.admin_access)


def _worker_listeners(options: RunOptions) -> Listeners:
    try:
        public = worker_socket(options.listen.host, options.listen.port)
        return Listeners(public, worker_admin_socket(), _server_tls(options))
    except OSError as error:
        raise StartError(f"worker {worker_number()} cannot listen: {error.strerror or error}") from None


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {address}: {error.strerror or error}") from None
    return sock


def _server_tls(options: RunOptions) -> ssl.SSLContext | None:
    if not options.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"--tls-cert {options.tls_cert}: {error}") from None
    return context


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)  # noqa: T201 - one clear line
    return code
