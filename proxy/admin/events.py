"""What has just happened, told to whoever listens: the source of /events and of the live page."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LISTENERS = 32
MAX_WAITING = 256
LOG_KINDS = frozenset({"handshake", "session"})


class Listener:
    """One reader of the feed: a bounded queue that loses its oldest event when the reader is slow.

    `kinds` of events are for it, at most `room` of them wait.
    """

    def __init__(self, kinds: frozenset[str] = LOG_KINDS, room: int = MAX_WAITING) -> None:
        self.kinds = kinds
        self._waiting: deque[bytes] = deque(maxlen=room)
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, event: bytes) -> None:
        """Queue an encoded event."""
        if len(self._waiting) == self._waiting.maxlen:
            self._lost += 1
        self._waiting.append(event)
        self._wake.set()

    def close(self) -> None:
        """Let `take` return None once the queue is empty."""
        self._closed = True
        self._wake.set()

    async def take(self, timeout_s: float) -> bytes | None:
        """Return all that waits; a heartbeat after `timeout_s` of nothing; None when the feed closed."""
        if not self._waiting and not self._closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return b": heartbeat\n\n"
        self._wake.clear()
        if not self._waiting:
            return None
        told = b"".join(self._waiting)
        self._waiting.clear()
        if self._lost:
            told = encode("lost", {"events": self._lost}) + told
            self._lost = 0
        return told


class EventFeed:
    """Hands each event to every listener. `publish` costs a length check when nobody listens."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether no further listener is taken."""
        return self._closed or len(self._listeners) >= MAX_LISTENERS

    def publish(self, kind: str, fields: dict[str, object]) -> None:
        """Tell all listeners of this kind. Call it on the loop's thread; never blocks or raises."""
        if not self._listeners:
            return
        listeners = [listener for listener in self._listeners if kind in listener.kinds]
        if listeners:
            event = encode(kind, fields)
            for listener in listeners:
                listener.put(event)

    @contextmanager
    def subscribe(self, kinds: frozenset[str] = LOG_KINDS, room: int = MAX_WAITING) -> Iterator[Listener]:
        """Listen to these kinds of events for as long as the context lasts; at most `room` wait."""
        listener = Listener(kinds, room)
        self._listeners.add(listener)
        if self._closed:
            listener.close()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End all streams; the server stops."""
        self._closed = True
        for listener in self._listeners:
            listener.close()


def encode(kind: str, fields: dict[str, object]) -> bytes:
    """Return a server-sent event (HTML standard, section 9.2); JSON has no line breaks, one line does."""
    return f"event: {kind}\ndata: {json.dumps(fields, separators=(',', ':'), default=str)}\n\n".encode()
