"""What checking a token costs: good ones by algorithm, and every kind of bad one, which must not cost more.

The gate without `guard.jwt` opens the same connections for comparison. Who has a bad token gets 401.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator

from tests.backends import front, wire
from tests.backends.issuer import Issuer, bent, signing
from tests.backends.launch import Server
from tests.bench import backend, peers, visit
from tests.bench.coming import BOUND_S, SETTLE_S, VISITORS, WARM_UP
from tests.bench.result import GATE, Reading, Result, interleave, p50_p99
from tests.bench.stand import Meter, Plan, Stand, stand

CHECKING = "gate + jwt"
POLICY = """
extends: production
guard:
  jwt:
    sources: [{{from: authorization}}]
    algorithms: [ES256, RS256, EdDSA, HS256]
    keys:
      - {{kind: secret, env: SHARED, kid: shared}}
      - {{kind: public, env: RSA, kid: rsa}}
      - {{kind: public, env: EDWARDS, kid: edwards}}
    jwks: {{url: "{url}"}}
"""


def good(issuer: Issuer) -> dict[str, str]:
    """Return a good token of each kind of algorithm."""
    return {
        "HS256": signing("HS256").token("shared"),
        "RS256": signing("RS256").token("rsa"),
        "ES256": issuer.token(),
        "EdDSA": signing("EdDSA").token("edwards"),
    }


def bad(issuer: Issuer) -> dict[str, str]:
    """Return a token for each way in which one is bad."""
    return {
        "bad signature": bent(issuer.token()),
        "expired": issuer.token(exp=1),
        "unknown kid": issuer.key.token("made-up"),
        "garbage": "a.b.c",
        "oversized": f"{'a' * 9000}.b.c",
        "none": "",
    }


@contextlib.contextmanager
def gates(issuer: Issuer) -> Iterator[Stand]:
    """A gate that lets everybody in, and one that checks."""
    env = peers.QUIET | peers.build()
    keys = {
        "SHARED": signing("HS256").private.decode(),
        "RSA": signing("RS256").public.decode(),
        "EDWARDS": signing("EdDSA").public.decode(),
    }

    def checking(upstream: str) -> Server:
        return front.gate(upstream, POLICY.format(url=issuer.url), env=env | keys)

    with stand(backend.start, {GATE: peers.gate, CHECKING: checking}) as running:
        yield running


async def tokens(plan: Plan) -> Result:
    """Run it. `cpu_us` is the gate's CPU for one connection, from the request to its end."""
    result = Result(
        "tokens", "one echo of 64 B with a good token, or 401 for a bad one", "connection", "cpu_us"
    )
    with Issuer() as issuer, gates(issuer) as running:
        told = good(issuer) | bad(issuer)
        requests = {f"{CHECKING}: {name}": wire.upgrade("/ws/echo", *field(told[name])) for name in told}
        requests = {GATE: visit.REQUEST} | requests
        fine = {GATE, *(f"{CHECKING}: {name}" for name in good(issuer))}
        for way, request in requests.items():
            for _ in range(plan.size(WARM_UP, 1)):
                await knock(running.address(server(way)), request, refused=way not in fine)

        async def turn(way: str) -> Reading:
            return await busy(running, way, requests[way], plan.seconds, refused=way not in fine)

        await interleave(result, list(requests), plan.rounds, turn, BOUND_S)
        result.notes += notes(result, fine)
        result.notes.append(f"the key set was fetched {issuer.fetches} times")
    return result


def server(way: str) -> str:
    return way.partition(":")[0]


def field(token: str) -> list[str]:
    return [f"Authorization: Bearer {token}"] if token else []


async def knock(address: tuple[str, int], request: bytes, *, refused: bool) -> None:
    """Come, and be served or refused as it is expected."""
    try:
        await visit.come_and_go(address, request)
    except ConnectionError as error:
        if not refused or "401" not in str(error):
            raise
        return
    if refused:
        raise RuntimeError("a bad token was accepted")


async def busy(running: Stand, way: str, request: bytes, seconds: float, *, refused: bool) -> Reading:
    """Keep coming for a while; those that have begun by then are counted."""
    address, took_us = running.address(server(way)), []
    meter = Meter(running.proxies[server(way)], running.backend)

    async def visitor() -> None:
        while meter.took_s() < seconds:
            began = time.perf_counter()
            await knock(address, request, refused=refused)
            took_us.append((time.perf_counter() - began) * 1e6)

    async with asyncio.TaskGroup() as group:
        for _ in range(VISITORS):
            group.create_task(visitor())
    within_s = meter.took_s()
    await asyncio.sleep(SETTLE_S)
    p50, p99 = p50_p99(took_us)
    return meter.reading(len(took_us), within_s) | {"p50_us": p50, "p99_us": p99}


def notes(result: Result, fine: set[str]) -> list[str]:
    """Say what good tokens add to a session, and how bad ones compare with the cheapest refusal."""
    told = []
    for way in result.ways:
        under = GATE if way in fine else f"{CHECKING}: none"
        pairs = zip(result.values(way), result.values(under), strict=False)
        added_us = [one - other for one, other in pairs]
        if added_us and way != under:
            what = "a session without a check" if way in fine else "refusing a request without a token"
            told.append(f"{way}: {statistics.median(added_us):+.0f} us of CPU to {what}")
    return told
