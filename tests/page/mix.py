"""Visitors of a gate before `chat.py` or `flaky.py`: served, redialled, slow, turned away, gone, too late."""

from __future__ import annotations

import asyncio
import itertools

from tests.backends import wire

Address = tuple[str, int]
_ids = itertools.count(1)

# Before flaky.py: what falls over often enough, and what never gets up in time.
FLAKY_POLICY = """\
extends: production
routes:
  - path: /cold
    handshake: {redial: {tries: 3, base_ms: 10, max_ms: 20}}
  - path: /never
    rewrite: /cold
    handshake: {deadline_s: 0.4, redial: {tries: 1000, base_ms: 20, max_ms: 60}}
"""

# Before chat.py: what an application would have.
CHAT_POLICY = """\
extends: production
routes:
  - path: /ws/announce
    handshake: {upstream: {announcement: {evidence: message, budget_ms: 300}}}
  - path: /ws/crash
    handshake: {redial: {tries: 4}}
  - path: /ws/slow
    handshake: {deadline_s: 1}
  - path: /ws/**
"""


async def talk(address: Address, path: str, *fields: str, **options: bool) -> wire.Wire:
    """Open, have one message echoed, stay."""
    client = await wire.opened(address, path, *fields, **options)
    client.send(wire.text("hello"))
    while await client.message() != b"hello":
        pass
    return client


async def turned_away(address: Address, path: str) -> int:
    """Ask for a WebSocket that is refused; return the status."""
    client = await wire.Wire.dial(address, wire.upgrade(path))
    head = await client.head()
    client.hang_up()
    return head.status


async def give_up(address: Address, path: str, after_s: float) -> None:
    """Ask for a WebSocket, and leave before it is there."""
    client = await wire.Wire.dial(address, wire.upgrade(path))
    await asyncio.sleep(after_s)
    client.hang_up()


def cold(path: str, refuse: int, status: int = 503) -> str:
    """A path of flaky.py with an id of its own, whose first upgrades get `status`."""
    return f"{path}?id=visitor-{next(_ids)}&refuse={refuse}&status={status}"
