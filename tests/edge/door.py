"""A gate and its backend as the tests of the door use them, and what the gate counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.edge.peers import Backend, Peer, Stand, request, standing


@asynccontextmanager
async def stand(folder: Path, policy: str) -> AsyncIterator[tuple[Stand, Backend]]:
    async with Backend.listening() as backend, standing(folder, backend, policy) as gate:
        yield gate, backend


async def opened(gate: Stand, backend: Backend, *fields: bytes) -> tuple[Peer, Peer]:
    """A client and its upstream, joined."""
    client = await gate.dial(request(b"/ws", *fields))
    upstream = await backend.accepted()
    await client.upgraded()
    client.say("hello")
    assert await upstream.message() == "hello"
    return client, upstream


def kept(gate: Stand) -> tuple[int, int, int, int]:
    """What the gate counts: sessions, pending ones, clients, early bytes."""
    shared = gate.gate._shared
    return len(shared.sessions), len(shared.pending), len(shared._clients), shared.early.bytes
