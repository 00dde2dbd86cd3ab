"""The life of a gate, in the order in which it happens: start, serve, stop.

One `Gate` is one process (with `--workers` there are several, which share nothing).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aiohttp import web

from proxy import __version__
from proxy.admin import EventFeed, Health, LegSnapshot, SessionSnapshot, build, health
from proxy.core.plan import Role
from proxy.edge.accept import Acceptor
from proxy.edge.http import PassThrough, http_server, upstream_tls
from proxy.edge.shared import Shared, now_ms
from proxy.edge.takeover import with_head_deadline
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from proxy.edge.session import Session
    from proxy.edge.upstream import Upstream
    from proxy.policy import Policy

_log = logging.getLogger("readygate.server")
_BACKLOG = 4096
# The last part of the grace is for telemetry, and before that a moment for the last words to upstreams.
_FLUSH_S = 1.5
_LAST_WORDS_S = 0.1


class StartError(Exception):
    """The gate cannot start; the text is one clear line."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Bound sockets: the public one, and the admin's unless it is off. `tls` encrypts the public one."""

    public: socket.socket
    admin: socket.socket | None = None
    tls: ssl.SSLContext | None = None


class Gate:
    """A running gate. `start` it, wait for whatever is to end it, then `stop` it. Implements `AdminState`."""

    def __init__(
        self, upstream: Upstream, policy: Policy, telemetry: Telemetry, tls: ssl.SSLContext | None
    ) -> None:
        self._policy = policy
        self._telemetry = telemetry
        self.feed = EventFeed()
        telemetry.listeners.append(self.feed.publish)
        self._shared = Shared(upstream, tls, policy, telemetry)
        http = policy.default.settings.http
        settings = policy.default.settings.upstream
        self._passes = PassThrough(
            upstream,
            connections=http.connections,
            connect_timeout_s=settings.connect_timeout_s,
            response_timeout_s=http.response_timeout_s,
            max_line_bytes=http.max_line_bytes,
            max_field_bytes=http.max_field_bytes,
            max_headers=http.max_headers,
            tls=tls,
            server_name=settings.tls.server_name,
        )
        self._http_server: web.Server | None = None
        self._admin_server: web.Server | None = None
        self._listening: list[asyncio.Server] = []
        self._started = False

    @classmethod
    def build(cls, upstream: Upstream, policy: Policy, environ: Mapping[str, str]) -> Self:
        """Make a gate from its settings. Call in a running loop. Raise StartError."""
        tls = None
        if upstream.tls:
            settings = policy.default.settings.upstream.tls
            try:
                tls = upstream_tls(verify=settings.verify, ca_file=settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise StartError(f"upstream.tls.ca_file {settings.ca_file}: {error}") from None
        telemetry = Telemetry.from_environment(
            environ, version=__version__, upstream=(upstream.host, upstream.port)
        )
        return cls(upstream, policy, telemetry, tls)

    # -- start ----------------------------------------------------------------------------------------------

    async def start(self, listeners: Listeners) -> None:
        """Listen. From here on clients are served."""
        loop = asyncio.get_running_loop()
        http = self._policy.default.settings.http
        scheme = "https" if listeners.tls else "http"
        acceptor = Acceptor(self._shared, self._passes, self._health, scheme)
        self._http_server = http_server(
            acceptor.handle,
            keepalive_s=http.keepalive_s,
            max_line_bytes=http.max_line_bytes,
            max_field_bytes=http.max_field_bytes,
            max_headers=http.max_headers,
        )
        factory = with_head_deadline(self._http_server, http.header_deadline_s)
        public = await loop.create_server(factory, sock=listeners.public, backlog=_BACKLOG, ssl=listeners.tls)
        self._listening.append(public)
        if listeners.admin is not None:
            self._admin_server = web.Server(build(self), access_log=None)
            self._listening.append(await loop.create_server(self._admin_server, sock=listeners.admin))
        self._started = True
        # What exists now lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()

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
        if self._http_server is not None:
            self._http_server.pre_shutdown()  # idle connections end at once, requests in flight finish
            ending.append(self._http_server.shutdown(ends_s - loop.time()))
        try:
            async with asyncio.timeout_at(ends_s - _LAST_WORDS_S):
                await asyncio.gather(*ending)
        except TimeoutError:
            await self._cut(ends_s)
            if self._http_server is not None:
                await self._http_server.shutdown(0)
        await self._passes.close()
        self.feed.close()
        for listening in self._listening[1:]:
            listening.close()
        if self._admin_server is not None:
            await self._admin_server.shutdown(0.1)
        await asyncio.to_thread(self._telemetry.shutdown, _FLUSH_S)

    def _spread_drain(self) -> None:
        """Let each session be drained at a moment of its own: who leaves together comes back together.

        Each gets a random moment within its own share of the time, so that no moment gets many by chance.
        """
        sessions = list(self._shared.sessions)
        random.shuffle(sessions)
        share_s = self._policy.default.settings.drain.spread_s / max(len(sessions), 1)
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
        return [_snapshot(session, at_ms) for session in self._shared.sessions]

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


def _snapshot(session: Session, at_ms: float) -> SessionSnapshot:
    return SessionSnapshot(
        id=str(session.id),
        route=session.route.pattern,
        path=session.path,
        client_address=session.peer,
        age_s=(at_ms - session.started_ms) / 1000,
        client=_leg(session, Role.CLIENT),
        upstream=_leg(session, Role.UPSTREAM),
        redials=session.redials,
        trace_id=session.trace_id,
    )


def _leg(session: Session, role: Role) -> LegSnapshot:
    view = session.leg(role)
    return LegSnapshot(view.state.value, view.messages, view.bytes, view.early_bytes)
