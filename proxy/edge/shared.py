"""What the sessions of a process share: the backend's address, the policy, telemetry, and each other."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Hashable
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.core.departure import LearnedQuiet
from proxy.core.early import EarlyTotal
from proxy.core.handshake import Handshake, learned_windows
from proxy.edge.acked import measurable
from proxy.edge.auth import Checks
from proxy.edge.memory import Tide, release
from proxy.edge.room import Room
from proxy.guard import Clients, Load, Quieter, limit_reached, most_sessions

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.plan import Role
    from proxy.edge.check import Material
    from proxy.edge.session import Session
    from proxy.edge.upstream import Upstream
    from proxy.guard import Limit
    from proxy.policy import JwtSettings, Policy, Route
    from proxy.telemetry.telemetry import Telemetry

# How long after a wave of sessions its memory is given back: their last callbacks are over by then.
_SETTLE_S: Final = 1.0
_ENTROPY_BYTES: Final = 4096

# What is learned belongs to a route and to the plan that it was learned under: sessions that are older than
# the policy still learn for theirs.
_Plan: TypeAlias = tuple[Hashable, ...]


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
    """One per process.

    `sessions` are those that have a leg left, `pending` those of them whose handshake is under way, `early`
    what is held for all of them, `room` the connections that are no session. `checks`: who may come in.
    """

    def __init__(
        self,
        upstream: Upstream,
        tls: ssl.SSLContext | None,
        policy: Policy,
        telemetry: Telemetry,
        materials: Mapping[JwtSettings, Material] = MappingProxyType({}),
    ) -> None:
        self.upstream = upstream
        self.tls = tls
        self.policy = policy
        self.checks = Checks.of(policy, materials, None, telemetry.metrics.key_set_fetched)
        self.telemetry = telemetry
        self.loop = asyncio.get_running_loop()
        self.sessions: set[Session] = set()
        self.pending: set[Session] = set()
        self._checking = 0  # requests whose token is being checked, which may wait for a key
        self.early = EarlyTotal()
        self.quieter = Quieter()
        self._clients = Clients()
        self._most_sessions = most_sessions()
        self.room = Room(self)
        self._tide = Tide()
        self.draining = False
        self._windows: dict[_Plan, Mapping[Role, LearnedWindow]] = {}
        self.measurable = measurable()
        self._quiets: dict[_Plan, LearnedQuiet] = {}
        self._idle: asyncio.Future[None] | None = None
        telemetry.metrics.watch(_Watched(self))

    def switch(
        self, policy: Policy, tls: ssl.SSLContext | None, materials: Mapping[JwtSettings, Material]
    ) -> None:
        """Let new sessions have this policy. What a route has learned is kept where its plan is the same."""
        self.policy, self.tls = policy, tls
        self.checks = Checks.of(policy, materials, self.checks, self.telemetry.metrics.key_set_fetched)
        routes = (policy.default, *policy.routes)
        windows, quiets = set(map(_window_plan, routes)), set(map(_quiet_plan, routes))
        self._windows = {plan: known for plan, known in self._windows.items() if plan in windows}
        self._quiets = {plan: known for plan, known in self._quiets.items() if plan in quiets}

    def handshake(self, route: Route) -> Handshake:
        """Return the core of a new session on this route. It shares the route's learned windows."""
        plan = route.settings.handshake
        return Handshake(
            plan,
            self.windows(route),
            nonce=nonce,
            chance=random.random,
            measurable=lambda _: self.measurable,
            early=self.early,
        )

    def windows(self, route: Route) -> Mapping[Role, LearnedWindow]:
        """Return what this route has learned about how soon its legs are lost."""
        plan = _window_plan(route)
        windows = self._windows.get(plan)
        if windows is None:
            windows = self._windows[plan] = learned_windows(route.settings.handshake)
        return windows

    def quiet(self, route: Route) -> LearnedQuiet:
        """Return what this route has learned about how long its replies take."""
        plan = _quiet_plan(route)
        quiet = self._quiets.get(plan)
        if quiet is None:
            quiet = self._quiets[plan] = LearnedQuiet(route.settings.departure)
        return quiet

    def learned(self) -> Iterator[tuple[Route, Mapping[Role, LearnedWindow] | None, LearnedQuiet | None]]:
        """Yield what each route has learned; on any thread.

        Routes on which nobody has come yet have learned nothing.
        """
        for route in (*self.policy.routes, self.policy.default):
            windows = self._windows.get(_window_plan(route))
            quiet = self._quiets.get(_quiet_plan(route))
            if windows is not None or quiet is not None:
                yield route, windows, quiet

    def limit_reached(self, client_address: str, head: int) -> Limit | None:
        """Return why this client may not have one more session, whose request has a head of so many bytes."""
        load = Load(
            sessions=len(self.sessions),
            handshakes_pending=len(self.pending) + self._checking,
            early_bytes=self.early.bytes,
            of_client=self._clients.sessions(client_address),
        )
        return limit_reached(self.policy.default.settings.limits, load, head, self._most_sessions)

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Count a handshake as pending while its token is checked: it is no session yet."""
        self._checking += 1
        try:
            yield
        finally:
            self._checking -= 1

    def add(self, session: Session) -> None:
        """Keep a session until it has no leg left."""
        self.sessions.add(session)
        self.pending.add(session)
        self._clients.came(session.client_address)
        self.room.make()
        self._tide.ebbed(len(self.sessions))

    def decided(self, session: Session) -> None:
        """Note that a session's handshake is over."""
        self.pending.discard(session)

    def forget(self, session: Session) -> None:
        """Let go of a session that has no leg left. It may be said twice, by a bug."""
        if session in self.sessions:
            self.sessions.remove(session)
            self.pending.discard(session)
            self._clients.went(session.client_address)
        if self._tide.ebbed(len(self.sessions)):
            self.loop.call_later(_SETTLE_S, release)
        if not self.sessions and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Wait until no session has a leg left."""
        if self.sessions:
            self._idle = self.loop.create_future()
            await self._idle


class _Watched:
    """What metrics read of the shared things when somebody collects."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def ready(self) -> int:
        return int(not self._shared.draining)

    def early_bytes(self) -> int:
        return self._shared.early.bytes

    def tasks(self) -> int:
        return len(asyncio.all_tasks(self._shared.loop))

    def learned_windows(self) -> dict[tuple[str, str], float]:
        at_ms = now_ms()
        return {
            (route.pattern, str(role)): window.width_ms(at_ms)
            for route, windows, _ in self._shared.learned()
            for role, window in (windows or {}).items()
        }

    def learned_quiets(self) -> dict[str, float]:
        learned = self._shared.learned()
        return {route.pattern: quiet.quiet_ms for route, _, quiet in learned if quiet is not None}


def _window_plan(route: Route) -> _Plan:
    plan = route.settings.handshake
    return route.pattern, plan.client.stabilization, plan.upstream.stabilization


def _quiet_plan(route: Route) -> _Plan:
    return route.pattern, route.settings.departure


class _Entropy:
    """Random bytes of the kernel, fetched many at a time: a call each would cost more than the frame."""

    __slots__ = ("_at", "_bytes")

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size > len(self._bytes):
            self._bytes, at = os.urandom(_ENTROPY_BYTES), 0
        self._at = at + size
        return self._bytes[at : self._at]


_entropy = _Entropy()


def nonce() -> bytes:
    """Return the payload of a ping of ours, which nobody can guess."""
    return _entropy.take(8)


def mask_key() -> bytes:
    """Return a fresh masking key: RFC 6455 5.3 wants it "derived from a strong source of entropy"."""
    return _entropy.take(4)
