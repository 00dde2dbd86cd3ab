"""Protocols that stand before a relay for a while, so that the relay itself need not ask on every chunk."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.edge.relay import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.departure import LearnedQuiet
    from proxy.core.pace import Pace
    from proxy.edge.relay import Relay

# So many replies are timed at a time, within so many chunks: a stream is soon let through.
_REPLIES: Final = 4
_CHUNKS: Final = 64


class Before(asyncio.Protocol):
    """Stands before `relay` on its transport, and hands everything on."""

    __slots__ = ("_relay",)

    def __init__(self, relay: Relay) -> None:
        """Take the relay's place at once."""
        self._relay = relay
        relay.transport.set_protocol(self)

    @property
    def stands(self) -> bool:
        """Whether it still has the relay's place."""
        return self._relay.transport.get_protocol() is self

    def step_aside(self) -> None:
        """Give the relay its place back."""
        if self.stands:
            self._relay.transport.set_protocol(self._relay)

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        self._relay.data_received(data)

    def eof_received(self) -> bool:
        """Hand on."""
        return self._relay.eof_received()

    def pause_writing(self) -> None:
        """Hand on."""
        self._relay.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        self._relay.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on."""
        self._relay.connection_lost(exc)


class ReplyTimer(Before):
    """Times how soon an upstream replies to its client and how it pauses, a few times, and steps aside.

    `first`: who is to know when it says something for the first time, in ms.
    """

    __slots__ = ("_chunks", "_client", "_first", "_quiet", "_replies")

    def __init__(
        self,
        upstream: Relay,
        client: Relay,
        quiet: LearnedQuiet,
        first: Callable[[float], None] | None = None,
    ) -> None:
        self._client = client
        self._quiet = quiet
        self._first = first
        self._replies = _REPLIES
        self._chunks = _CHUNKS
        super().__init__(upstream)

    def data_received(self, data: bytes) -> None:
        """Take the time since the last of the two spoke, if this is a part of a message."""
        relay = self._relay
        at_s, asked_s, heard_s, said = (
            monotonic(),
            self._client.said_s,
            relay.said_s,
            relay.walker.payload_bytes,
        )
        self._chunks -= 1
        if not (self._replies and self._chunks):
            self.step_aside()
        relay.data_received(data)
        if relay.walker.payload_bytes == said:
            return  # a Close, a pong: no reply
        if self._first is not None:
            self._first(at_s * 1000)
            self._first = None
        if asked_s > heard_s:
            self._quiet.replied((at_s - asked_s) * 1000)
            self._replies -= 1
        else:
            self._quiet.paused((at_s - heard_s) * 1000)


class Finisher(Before):
    """Lets the frame that is under way pass, and no more: then mutes the relay and calls `then`."""

    __slots__ = ("_then",)

    def __init__(self, relay: Relay, then: Callable[[], None]) -> None:
        self._then = then
        super().__init__(relay)

    def data_received(self, data: bytes) -> None:
        """Pass on up to the end of the frame; what is behind it is walked and discarded."""
        relay = self._relay
        at = 0
        while at < len(data) and (rest := relay.walker.rest):
            relay.data_received(data[at : at + rest])
            at += rest
        if not relay.walker.at_boundary:
            return
        relay.mute()
        self.step_aside()
        self._then()
        if at < len(data):
            relay.data_received(data[at:])


class Pacer(Before):
    """Holds a leg that says more than so many messages a second: its socket is not read for a while."""

    __slots__ = ("_loop", "_pace", "_timer")

    def __init__(self, relay: Relay, pace: Pace, loop: asyncio.AbstractEventLoop) -> None:
        self._pace = pace
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(relay)

    def data_received(self, data: bytes) -> None:
        """Hand on, and wait as long as these messages cost."""
        before = self._relay.walker.messages
        self._relay.data_received(data)
        wait_ms = self._pace.took(self._relay.walker.messages - before, monotonic() * 1000)
        if wait_ms > 0 and self._timer is None and self.stands:
            self._relay.hold(Hold.PACE)
            self._timer = self._loop.call_later(wait_ms / 1000, self._go_on)

    def step_aside(self) -> None:
        """Hold the leg no more: its session is over, and its Close is to be heard."""
        super().step_aside()
        self._stop_timer()
        self._relay.let_go(Hold.PACE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and hand on."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        self._relay.let_go(Hold.PACE)
