"""Idle sessions depart: how soon the upstream hears the Close of a client that had long been quiet.

Both ends of the gate are in this process, so that one clock measures. All sessions are open at once; they
leave one after the other, so that what is measured is the gate and not a queue before it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import uvloop

from tests.backends import front
from tests.edge.peers import Backend, Peer, request
from tests.race.row import percentile

TITLE = "idle sessions depart"
QUIET_S = 0.5  # longer than a departure waits while the reply times of the route are not known
P99_MS = 5.0
AT_ONCE = 20
BOUND_S = 120.0


@dataclass
class Idle:
    """What became of the idle sessions. `told_ms`: from the client's Close to the upstream hearing it."""

    wanted: int
    told_ms: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return len(self.told_ms) == self.wanted and not self.trouble and percentile(self.told_ms, 99) < P99_MS

    def line(self) -> str:
        told = len(self.told_ms)
        p50, p99 = (f"{percentile(self.told_ms, share):.2f}" if told else "-" for share in (50, 99))
        return (
            f"{TITLE}: {told} of {self.wanted}, the upstream hears the Close after "
            f"p50 {p50} ms, p99 {p99} ms (must be under {P99_MS:g} ms)"
        )

    def record(self) -> dict:
        return {"family": "idle", "via": "gate", "connections": self.wanted, "line": self.line(),
                "trouble": self.trouble, "slowest_ms": sorted(self.told_ms)[-20:]}  # fmt: skip


def idle_sessions(count: int) -> Idle:
    """Let so many idle sessions depart through a gate with the policy as shipped."""
    result = Idle(count)
    try:
        uvloop.run(_bounded(result))
    except Exception as error:
        result.trouble.append(f"{type(error).__name__}: {error}"[:2000])
    return result


async def _bounded(result: Idle) -> None:
    async with asyncio.timeout(BOUND_S), Backend.listening() as backend:
        with await asyncio.to_thread(front.gate, f"http://127.0.0.1:{backend.port}") as gate:
            legs = await _opened(backend, gate.port, result.wanted)
            await asyncio.sleep(QUIET_S)
            for number, (client, upstream) in enumerate(legs):
                result.told_ms.append(await _depart(client, upstream, 4000 + number % 1000))


async def _opened(backend: Backend, port: int, count: int) -> list[tuple[Peer, Peer]]:
    """Open the sessions and exchange one message in each; return both ends of each."""
    upstreams: dict[str, Peer] = {}
    slots = asyncio.Semaphore(AT_ONCE)

    async def serve() -> None:
        peer = await backend.accepted()
        message = await peer.message()
        upstreams[message] = peer
        peer.say(message)

    async def ask(number: int) -> Peer:
        async with slots:
            client = await Peer.dial(port, request())
            await client.upgraded()
            client.say(str(number))
            assert await client.message() == str(number)
            return client

    serving = asyncio.gather(*(serve() for _ in range(count)))
    clients = await asyncio.gather(*(ask(number) for number in range(count)))
    await serving
    return [(client, upstreams[str(number)]) for number, client in enumerate(clients)]


async def _depart(client: Peer, upstream: Peer, code: int) -> float:
    """Close properly; return how many ms later the upstream heard of it."""
    began = time.perf_counter()
    client.bye(code)
    assert (await upstream.closed())[0] == code
    told_ms = (time.perf_counter() - began) * 1000
    upstream.bye(code)
    upstream.close()
    assert (await client.closed())[0] == code
    client.close()
    await client.gone()
    return told_ms
