"""A process that serves, alone or as one of several workers: from sockets to a listening gate, to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from typing import TYPE_CHECKING

from proxy.address import Address
from proxy.errors import StartError
from proxy.reload import Chosen, Reloader
from proxy.server import Gate, Listeners
from proxy.workers.control import obey
from proxy.workers.worker import (
    announce_ready,
    bound_socket,
    supervisor_channel,
    worker_admin_socket,
    worker_number,
    worker_socket,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from proxy.options import RunOptions
    from proxy.policy import Policy


async def serve(options: RunOptions, chosen: Chosen, environ: Mapping[str, str]) -> int:
    """Serve alone until a signal; return the exit code. Raise StartError."""
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


async def work(options: RunOptions, policy: Policy, environ: Mapping[str, str]) -> int:
    """Serve as one of several workers. Raise StartError."""
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
    try:
        return bound_socket(*address, share=False, listen=True)
    except OSError as error:
        raise StartError(f"cannot listen on {error.strerror}") from None


def _server_tls(options: RunOptions) -> ssl.SSLContext | None:
    if not options.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"--tls-cert {options.tls_cert}: {error}") from None
    return context
