"""What the sessions of a process share: the backend's address, the policy, telemetry, and each other."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Final

from proxy.core.departure import LearnedQuiet
from proxy.core.handshake import Handshake, learned_windows
from proxy.edge.acked import measurable
from proxy.edge.memory import Tide, release

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.plan import Role
    from proxy.edge.session import Session
    from proxy.edge.upstream import Upstream
    from proxy.policy import Policy, Route
    from proxy.telemetry import Telemetry

# How long after a wave of sessions its memory is given back: their last callbacks are over by then.
_SETTLE_S: Final = 1.0


def now_ms() -> float:
    """Return the time in ms on the monotonic clock that the core, spans and timers count in."""
    return time.monotonic() * 1000.0


def after_poll(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call back once what the kernel has was read.

    Timers run before the sockets are polled, so a busy loop might take not looking for quiet. Two turns on,
    it has looked.
    """
    loop.call_soon(loop.call_soon, callback)


class Shared:
    """One per process. `sessions` are those that have a leg left; `on_idle` resolves when there is none."""

    def __init__(
        self, upstream: Upstream, tls: ssl.SSLContext | None, policy: Policy, telemetry: Telemetry
    ) -> None:
        self.upstream = upstream
        self.tls = tls
        self.policy = policy
        self.telemetry = telemetry
        self.loop = asyncio.get_running_loop()
        self.sessions: set[Session] = set()
        self._tide = Tide()
        self.draining = False
        self._windows: dict[str, Mapping[Role, LearnedWindow]] = {}
        self.measurable = measurable()
        self._quiets: dict[str, LearnedQuiet] = {}
        self._idle: asyncio.Future[None] | None = None

    def handshake(self, route: Route) -> Handshake:
        """Return the core of a new session on this route. It shares the route's learned windows."""
        plan = route.settings.handshake
        return Handshake(
            plan,
            self.windows(route),
            nonce=nonce,
            chance=random.random,
            measurable=lambda _: self.measurable,
        )

    def windows(self, route: Route) -> Mapping[Role, LearnedWindow]:
        """Return what this route has learned about how soon its legs are lost."""
        windows = self._windows.get(route.pattern)
        if windows is None:
            windows = self._windows[route.pattern] = learned_windows(route.settings.handshake)
        return windows

    def quiet(self, route: Route) -> LearnedQuiet:
        """Return what this route has learned about how long its replies take."""
        quiet = self._quiets.get(route.pattern)
        if quiet is None:
            quiet = self._quiets[route.pattern] = LearnedQuiet(route.settings.departure)
        return quiet

    def add(self, session: Session) -> None:
        """Keep a session until it has no leg left."""
        self.sessions.add(session)
        self._tide.ebbed(len(self.sessions))

    def forget(self, session: Session) -> None:
        """Let go of a session that has no leg left."""
        self.sessions.discard(session)
        if self._tide.ebbed(len(self.sessions)):
            self.loop.call_later(_SETTLE_S, release)
        if not self.sessions and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Wait until no session has a leg left."""
        if self.sessions:
            self._idle = self.loop.create_future()
            await self._idle


def nonce() -> bytes:
    """Return the payload of a ping of ours, which nobody can guess."""
    return os.urandom(8)


def mask_key() -> bytes:
    """Return a fresh masking key: RFC 6455 5.3 wants it "derived from a strong source of entropy"."""
    return os.urandom(4)
