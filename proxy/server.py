"""The life of a gate, in the order in which it happens: start, serve (and switch the policy), stop.

One `Gate` is one process (with `--workers` there are several, which share nothing).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from proxy import __version__
from proxy.admin import About, EventFeed, Health, health
from proxy.admin.app import build
from proxy.edge.auth import load_materials
from proxy.edge.http import upstream_tls
from proxy.edge.memory import set_aside
from proxy.edge.shared import Shared, now_ms
from proxy.errors import StartError
from proxy.generation import Generation
from proxy.guard import BadKeyError
from proxy.snapshots import chosen, of_process, of_session
from proxy.telemetry import LagProbe
from proxy.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.admin import AdminAccess, NowSnapshot, SessionSnapshot
    from proxy.edge.check import Material
    from proxy.edge.upstream import Upstream
    from proxy.policy import JwtSettings, Policy
    from proxy.telemetry.recent import Finished

_log = logging.getLogger("readygate.server")
_BACKLOG = 4096
# The last part of the grace is for telemetry, and before that a moment for the last words to upstreams.
_FLUSH_S = 1.5
_LAST_WORDS_S = 0.1


@dataclass(frozen=True, slots=True)
class Listeners:
    """Bound sockets: the public one, and the admin's unless it is off. `tls` encrypts the public one.

    `access`: who may ask the admin listener; None: whoever can connect, as to a worker's socket.
    """

    public: socket.socket
    admin: socket.socket | None = None
    tls: ssl.SSLContext | None = None
    access: AdminAccess | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy that can be switched to: all that may fail for it has been done."""

    policy: Policy
    tls: ssl.SSLContext | None
    materials: Mapping[JwtSettings, Material]


class Gate:
    """A running gate. `start` it, wait for whatever is to end it, then `stop` it. Implements `AdminState`.

    Meanwhile `prepare` and `switch` give it another policy.
    """

    def __init__(
        self,
        upstream: Upstream,
        policy: Policy,
        telemetry: Telemetry,
        tls: ssl.SSLContext | None,
        materials: Mapping[JwtSettings, Material] = MappingProxyType({}),
        trace_url: str = "",
    ) -> None:
        self._telemetry = telemetry
        self._trace_url = trace_url
        self.feed = EventFeed()
        telemetry.listeners.append(self.feed.publish)
        self._shared = Shared(upstream, tls, policy, telemetry, materials)
        self._lag = LagProbe(self._shared.loop, telemetry.metrics.lagged)
        self._scheme = "http"
        self._generations: list[Generation] = []  # the last one serves
        self._admin_server: web.Server | None = None
        self._listening: list[asyncio.Server] = []
        self._started = False

    @classmethod
    def build(
        cls, upstream: Upstream, policy: Policy, environ: Mapping[str, str], *, trace_failures: bool = False
    ) -> Self:
        """Make a gate from its settings. Call in a running loop. Raise StartError."""
        prepared = _prepare(upstream, policy)
        telemetry = Telemetry.from_environment(
            environ,
            version=__version__,
            upstream=(upstream.host, upstream.port),
            trace_failures=trace_failures,
        )
        trace_url = environ.get("READYGATE_TRACE_URL", "")
        return cls(upstream, policy, telemetry, prepared.tls, prepared.materials, trace_url)

    # -- start ----------------------------------------------------------------------------------------------

    async def start(self, listeners: Listeners) -> None:
        """Listen. From here on clients are served."""
        loop = asyncio.get_running_loop()
        self._scheme = "https" if listeners.tls else "http"
        self._generations.append(self._generation())
        http = self._policy.default.settings.http
        public = await loop.create_server(
            self._connection,
            sock=listeners.public,
            backlog=_BACKLOG,
            ssl=listeners.tls,
            # a client that stops in the midst of its TLS handshake is as slow as one that stops in its head
            ssl_handshake_timeout=http.header_deadline_s if listeners.tls else None,
        )
        self._listening.append(public)
        if listeners.admin is not None:
            self._admin_server = web.Server(build(self, access=listeners.access), access_log=None)
            self._listening.append(await loop.create_server(self._admin_server, sock=listeners.admin))
        self._started = True
        self._lag.start()
        set_aside()

    def _generation(self) -> Generation:
        return Generation(self._shared, self._handle, self._health, self._scheme)

    def _connection(self) -> asyncio.Protocol:
        return self._generations[-1].protocol()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._generations[-1].handle(request)

    # -- another policy -------------------------------------------------------------------------------------

    @property
    def _policy(self) -> Policy:
        return self._shared.policy

    async def prepare(self, policy: Policy) -> Prepared:
        """Do what may fail for a policy, off the loop. Raise StartError; nothing has changed then."""
        return await asyncio.to_thread(_prepare, self._shared.upstream, policy)

    def switch(self, prepared: Prepared) -> None:
        """Serve new connections, requests and sessions by another policy; open sessions keep theirs."""
        if self._shared.draining:
            return
        self._shared.switch(prepared.policy, prepared.tls, prepared.materials)
        self._generations[-1].retire()
        self._generations = [*(each for each in self._generations if not each.over), self._generation()]

    def reloaded(self, result: str) -> None:
        """Count what came of a reload: `switched`, `unchanged` or `refused`."""
        self._telemetry.metrics.reloaded(result)

    # -- stop -----------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take no more, end every session properly within the grace, flush telemetry."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._policy.default.settings.drain.grace_s - _FLUSH_S
        self._shared.draining = True
        for listening in self._listening[:1]:
            listening.close()
        self._spread_drain()
        ending = [self._shared.idle()]
        servers = [generation.server for generation in self._generations]
        for server in servers:
            server.pre_shutdown()  # idle connections end at once, requests in flight finish
            ending.append(server.shutdown(ends_s - loop.time()))
        try:
            async with asyncio.timeout_at(ends_s - _LAST_WORDS_S):
                await asyncio.gather(*ending)
        except TimeoutError:
            await self._cut(ends_s)
            for server in servers:
                await server.shutdown(0)
        for generation in self._generations:
            await generation.close()
        self._lag.stop()
        self.feed.close()
        for listening in self._listening[1:]:
            listening.close()
        if self._admin_server is not None:
            await self._admin_server.shutdown(0.1)
        await asyncio.to_thread(self._telemetry.shutdown, _FLUSH_S)

    def _spread_drain(self) -> None:
        """Let each session be drained at a moment of its own: who leaves together comes back together.

        Each gets a random moment within its own share of the time, so that no moment gets many by chance. The
        last moment is early enough to be answered before what is left is cut.
        """
        sessions = list(self._shared.sessions)
        random.shuffle(sessions)
        drain = self._policy.default.settings.drain
        share_s = max(min(drain.spread_s, drain.grace_s - 2 * _FLUSH_S), 0.0) / max(len(sessions), 1)
        for number, session in enumerate(sessions):
            if session.joined is None or not share_s:
                session.drain()  # a handshake that is pending can only be refused
            else:
                after_s = (number + random.random()) * share_s  # noqa: S311 - it spreads load
                self._shared.loop.call_later(after_s, session.drain)

    async def _cut(self, at_s: float) -> None:
        """End what has not ended by itself; upstreams that are departing hear of it first."""
        left = tuple(self._shared.sessions)
        _log.warning("sessions cut", extra={"fields": {"sessions": len(left)}})
        for session in left:
            session.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at_s):
                await self._shared.idle()
        for session in tuple(self._shared.sessions):
            session.abort()

    # -- AdminState -----------------------------------------------------------------------------------------

    def alive(self) -> Health:
        """Whether the process works: it answers."""
        return Health(ok=True)

    def ready(self) -> Health:
        """Whether new sessions are welcome."""
        if not self._started:
            return Health(ok=False, reasons=("starting",))
        if self._shared.draining:
            return Health(ok=False, reasons=("stopping",))
        return Health(ok=True)

    def started(self) -> Health:
        """Whether the start is over."""
        return Health(ok=self._started, reasons=() if self._started else ("starting",))

    def sessions(self) -> Iterable[SessionSnapshot]:
        """All sessions, pending ones too."""
        at_ms = now_ms()
        return [of_session(session, at_ms) for session in self._shared.sessions]

    def newest(self, most: int) -> Sequence[SessionSnapshot]:
        """At most so many sessions: those pending, the oldest first, then the newest."""
        at_ms = now_ms()
        return [of_session(session, at_ms) for session in chosen(self._shared, most)]

    def handshakes(self) -> Sequence[Finished]:
        """The last handshakes that are over, the oldest first."""
        return self._telemetry.recent

    def unix_ms(self, at_ms: float) -> float:
        """Ms since 1970 at this moment of the monotonic clock."""
        return self._telemetry.recorder.epoch_ns(at_ms) / 1e6

    def now(self) -> NowSnapshot:
        """How the process is doing."""
        return of_process(self._shared, self._telemetry.metrics, now_ms())

    def about(self) -> About:
        """What the process is."""
        return About(__version__, str(self._shared.upstream), self._trace_url)

    def policy_text(self) -> str:
        """The effective policy as YAML."""
        return self._policy.dump()

    def metrics_text(self) -> str:
        """All metrics in the Prometheus text format."""
        return self._telemetry.metrics.prometheus()

    async def _health(self, name: str) -> web.StreamResponse:
        status, body = health(self, name)
        kind = "application/json" if status != 404 else "application/problem+json"  # noqa: PLR2004
        headers = {"Server": "readygate", "Cache-Control": "no-store"}
        return web.Response(status=status, body=body, content_type=kind, headers=headers)


def _prepare(upstream: Upstream, policy: Policy) -> Prepared:
    """Read the files that a policy names, and the keys in the environment. Raise StartError. May block."""
    tls = _trust(upstream, policy)
    try:
        return Prepared(policy, tls, load_materials(policy, os.environ))
    except BadKeyError as error:
        raise StartError(str(error)) from None


def _trust(upstream: Upstream, policy: Policy) -> ssl.SSLContext | None:
    """Return how an `https` upstream is trusted. Raise StartError. May block."""
    if not upstream.tls:
        return None
    settings = policy.default.settings.upstream.tls
    try:
        return upstream_tls(verify=settings.verify, ca_file=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"upstream.tls.ca_file {settings.ca_file}: {error}") from None
