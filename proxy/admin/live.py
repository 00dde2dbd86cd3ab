"""What the live page shows, told while somebody looks. Otherwise no timer runs, nothing is worked out."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from proxy.admin.events import encode
from proxy.admin.handshakes import handshake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.admin.events import Listener
    from proxy.admin.state import AdminState, LegSnapshot, SessionSnapshot
    from proxy.telemetry.recent import Finished
    from proxy.telemetry.traces import HandshakeTrace

KINDS: Final = frozenset({"handshakes", "now", "sessions"})
MOST_SESSIONS: Final = 100
# A reader that is so far behind gets `lost` and asks anew: all it needs is told at the start.
_ROOM: Final = 32
_TICK_S: Final = 0.25
_TICKS_A_NOW: Final = 4


class Live:
    """Feeds the pages that are open: new handshakes four times a second, sessions and the rest once."""

    def __init__(self, state: AdminState, tick_s: float = _TICK_S) -> None:
        self._state = state
        self._tick_s = tick_s
        self._ticks = 0
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told: dict[HandshakeTrace, float | None] = {}  # and its first reply, as told

    @contextmanager
    def watch(self) -> Iterator[Listener]:
        """Listen for as long as the context lasts; what there is now comes first."""
        with self._state.feed.subscribe(KINDS, _ROOM) as listener:
            listener.put(encode("hello", asdict(self._state.about())))
            listener.put(encode("handshakes", self._handshakes(self._state.handshakes())))
            listener.put(encode("now", self._now()))
            listener.put(encode("sessions", self._sessions()))
            self._came()
            try:
                yield listener
            finally:
                self._went()

    def _came(self) -> None:
        self._watchers += 1
        if self._timer is None:
            self._told = {one.trace: one.trace.replied_ms for one in self._state.handshakes()}
            self._arm()

    def _went(self) -> None:
        self._watchers -= 1
        if not self._watchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._told = {}

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        feed, recent, told = self._state.feed, self._state.handshakes(), self._told
        news = [one for one in recent if one.trace not in told or told[one.trace] != one.trace.replied_ms]
        if news:
            feed.publish("handshakes", self._handshakes(news))
            self._told = {one.trace: one.trace.replied_ms for one in recent}
        self._ticks += 1
        if self._ticks % _TICKS_A_NOW == 0:
            feed.publish("now", self._now())
            feed.publish("sessions", self._sessions())
        self._arm()

    def _handshakes(self, some: Iterable[Finished]) -> dict[str, object]:
        return all_of(self._state, some)

    def _now(self) -> dict[str, object]:
        return asdict(self._state.now())

    def _sessions(self) -> dict[str, object]:
        return {"sessions": [session(one) for one in self._state.newest(MOST_SESSIONS)]}


def all_of(state: AdminState, some: Iterable[Finished]) -> dict[str, object]:
    """Return these handshakes, in their order."""
    return {"handshakes": [handshake(one, state.unix_ms(one.trace.started_ms)) for one in some]}


def session(one: SessionSnapshot) -> dict[str, object]:
    """Return one session. Field by field: `asdict` takes five times as long, and there are many."""
    return {
        "id": one.id,
        "route": one.route,
        "path": one.path,
        "client_address": one.client_address,
        "age_s": round(one.age_s, 3),
        "client": _leg(one.client),
        "upstream": _leg(one.upstream),
        "redials": one.redials,
        "trace_id": one.trace_id,
    }


def _leg(leg: LegSnapshot) -> dict[str, object]:
    return {
        "state": leg.state,
        "messages": leg.messages,
        "bytes": leg.bytes,
        "early_bytes": leg.early_bytes,
        "unsent_bytes": leg.unsent_bytes,
    }
