"""The tries of a session at its upstream, one at a time: wait, connect, upgrade, and tell how it went."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from proxy.core import events
from proxy.core.plan import Role
from proxy.edge.dial import Dial, DialError, upgrade_request
from proxy.edge.shared import now_ms

if TYPE_CHECKING:
    from proxy.core.events import Event
    from proxy.edge.dial import Response
    from proxy.edge.relay import Held
    from proxy.edge.shared import Shared
    from proxy.edge.switching import Offer
    from proxy.policy import Route
    from proxy.telemetry.traces import HandshakeTrace

_log = logging.getLogger("readygate.session")


class TryOwner(Protocol):
    """Whose upstream is tried."""

    def try_told(self, event: Event) -> None:
        """Take what happened to a try, as an event for the core."""

    def try_accepted(self, response: Response) -> Held:
        """Return the leg that is to have the connection; it is given its transport next."""

    def try_ended(self) -> None:
        """Note that a try came to its end, well or not."""


class Tries:
    """Dials for one session. `offer` is what the upstream is asked.

    `rejection` is the last answer that was no 101, kept so that it can be passed on; its connection stays
    open while its body is still to come, until `release`.
    """

    __slots__ = (
        "_dial", "_kept", "_owner", "_route", "_shared", "_task", "_timer", "_trace",
        "offer", "rejection",
    )  # fmt: skip

    def __init__(
        self, shared: Shared, route: Route, trace: HandshakeTrace, offer: Offer, owner: TryOwner
    ) -> None:
        self._shared = shared
        self._route = route
        self._trace = trace
        self._owner = owner
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._dial: Dial | None = None
        self._kept: Dial | None = None  # holds the rest of the rejection
        self.offer = offer
        self.rejection: Response | None = None

    @property
    def under_way(self) -> bool:
        """Whether a try is running, other than the one that asks."""
        return self._task is not None and not self._task.done() and self._task is not asyncio.current_task()

    def start(self, attempt: int, after_ms: float) -> None:
        """Make a try after a while."""
        self._timer = self._shared.loop.call_later(after_ms / 1000, self._begin, attempt)

    def limit(self, after_s: float) -> None:
        """Let a running try finish, but not for ever: an upgrade that nobody waits for any more."""
        if self.under_way:
            self._timer = self._shared.loop.call_later(after_s, self.stop)

    def stop(self) -> None:
        """Stop what is planned or running, unless it is the try that asks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._task = None
        if self._dial is not None:
            self._dial.abort()
            self._dial = None

    def release(self) -> None:
        """Let go of the rejection: it was passed on, or nobody wants it."""
        self.rejection = None
        if self._kept is not None:
            self._kept.abort()
            self._kept = None

    def _begin(self, attempt: int) -> None:
        self._timer = None
        self._task = self._shared.loop.create_task(self._run(attempt))

    async def _run(self, attempt: int) -> None:
        dial = self._dial = Dial(self._shared.loop, self._shared.upstream, self._shared.tls)
        connected = False
        try:
            connected = await self._connect(dial, attempt)
            if connected:
                response = await self._upgrade(dial, attempt)
                if response is not None:
                    self._take(dial, response)
        except Exception:  # noqa: BLE001 - a bug of ours is a failed try, no less and no more
            _log.exception("try %d failed", attempt)
            dial.abort()
            at_ms = now_ms()
            lost = events.LegLost(at_ms, Role.UPSTREAM)
            self._owner.try_told(lost if connected else events.UpstreamUnreachable(at_ms, "error"))
        finally:
            self._owner.try_ended()

    async def _connect(self, dial: Dial, attempt: int) -> bool:
        settings = self._route.settings.upstream
        self._trace.connect_started(attempt, now_ms())
        try:
            await dial.connect(settings.connect_timeout_s, settings.tls.server_name)
        except DialError as error:
            at_ms = now_ms()
            self._trace.connect_ended(at_ms, error.cause)
            self._owner.try_told(events.UpstreamUnreachable(at_ms, error.cause))
            return False
        at_ms = now_ms()
        self._trace.connect_ended(at_ms, None)
        self._owner.try_told(events.UpstreamConnected(at_ms))
        return True

    async def _upgrade(self, dial: Dial, attempt: int) -> Response | None:
        traced = self._trace.upgrade_started(attempt, now_ms())
        fields = self.offer.fields(self._shared.telemetry.trace_fields, traced)
        head = upgrade_request(self.offer.target, fields)
        try:
            response = await dial.upgrade(
                head, self.offer.key, self._route.settings.handshake.redial.statuses
            )
        except DialError as error:
            at_ms = now_ms()
            self._trace.upgrade_ended(at_ms, None, error.cause)
            dial.abort()
            self._owner.try_told(events.LegLost(at_ms, Role.UPSTREAM))
            return None
        self._trace.upgrade_ended(now_ms(), response.status, None)
        return response

    def _take(self, dial: Dial, response: Response) -> None:
        """Hand an accepted connection over, or keep a rejection."""
        self._dial = None
        if not response.accepted:
            self.release()
            self.rejection = response
            if response.rest is None:
                dial.abort()
            else:
                self._kept = dial
            held = response.rest is None
            self._owner.try_told(events.UpstreamRejected(now_ms(), response.status, held=held))
            return
        leg = self._owner.try_accepted(response)
        tail, over = dial.outbound.hand_over(leg)
        transport = leg.transport = dial.outbound.transport
        assert transport is not None
        at_ms = now_ms()
        self._owner.try_told(events.UpstreamAccepted(at_ms, response.subprotocol, response.extensions, tail))
        if over:  # it went before we had it; the gate may have been opened for what it said
            transport.get_protocol().connection_lost(None)
