"""The fault families of the race: which servers, which clients, which policy for the gate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.backends import launch
from tests.race import leaving
from tests.race.clients import Outcome, Script, talk
from tests.race.family import Family, Run

DOWN_S = 3.0
UVICORNS = tuple(f"uvicorn-{flavour}" for flavour in launch.UVICORN_FLAVOURS)
SERVERS = (*UVICORNS, "hypercorn", "daphne")
ANNOUNCED = """
extends: production
routes:
  - path: /ws/**
    handshake:
      upstream:
        announcement: {evidence: message, json: {path: type, equals: connection_established}, budget_ms: 2000}
"""

# Half of these clients lose what comes together with the 101. The gate waits for their pong before it hands
# on a push; on a machine that is busy with the race itself, 75 ms may pass before such a client gets to read.
PATIENT = """
extends: production
handshake: {client: {validation: {evidence: pong, budget_ms: 500}}}
"""


def _talks(path: str, script: Script) -> Callable[[Run], Awaitable[list[Outcome]]]:
    async def clients(run: Run) -> list[Outcome]:
        async def one(number: int) -> Outcome:
            dice = random.Random(f"{run.label}/{number}")
            here = path.format(
                id=f"{run.label}-{number}", wait=f"{dice.uniform(0.2, 0.5):.3f}", **_turn(number)
            )
            return await talk(run.address, here, script, number)

        return await run.crowd(one)

    return clients


def _turn(number: int) -> dict[str, object]:
    return {"status": (500, 503)[number % 2], "refuse": 1 + number % 3}


async def _while_down(run: Run) -> list[Outcome]:
    """Start the connections evenly over the time in which nothing listens."""

    async def one(number: int) -> Outcome:
        await asyncio.sleep(DOWN_S * 0.9 * number / run.count)
        return await talk(run.address, f"/ws/echo?id={run.label}-{number}", Script(early=1), number)

    async def start_late() -> None:
        await asyncio.sleep(DOWN_S)
        run.backend = run.begin()

    starting = asyncio.create_task(start_late())
    outcomes = await asyncio.gather(*(one(number) for number in range(run.count)))
    await starting
    return outcomes


async def _pushes(run: Run) -> list[Outcome]:
    """Every second client drops what its handshake reader has read too much; all must hear the pushes."""
    pushes = tuple(f"push {number}".encode() for number in range(3))

    async def one(number: int) -> Outcome:
        script = Script(after=1, hears=pushes, drop_over_read=number % 2 == 1)
        return await talk(run.address, f"/ws/greet?count=3&id={run.label}-{number}", script, number)

    return await run.crowd(one)


def _departure(name: str, title: str, manners: tuple[leaving.Manner, ...]) -> Family:
    """Leavers of open sessions; few at a time, so that the machine can answer a Close when it comes."""
    servers = ("uvicorn-websockets-sansio", "uvicorn-wsproto", "hypercorn", "daphne")
    return Family(name, title, servers, leaving.visits(*manners), quiet_log=True, at_most=10)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "early",
            "early frame in the same segment",
            SERVERS,
            _talks("/ws/echo?id={id}", Script(early=2)),
        ),
        Family(
            "slow",
            "slow accept",
            UVICORNS,
            _talks("/ws/slow?wait={wait}&id={id}", Script(early=1, blind=2, after=2)),
        ),
        Family(
            "late-listener",
            "late listener, with announcement",
            ("node",),
            _talks(
                "/ws/late?wait=40&id={id}", Script(early=1, hears=(b'{"type":"connection_established"}',))
            ),
            policy=ANNOUNCED,
        ),
        Family("refused", "refused, up after 3 s", ("uvicorn-websockets-sansio",), _while_down, late=True),
        Family(
            "cold",
            "HTTP 500/503 for the first tries",
            ("flaky",),
            _talks("/cold?id={id}&refuse={refuse}&status={status}", Script(early=1)),
        ),
        Family(
            "dropped",
            "25 % dropped within 20 ms (1011, reset)",
            ("flaky",),
            _talks("/dropped?id={id}", Script(early=1, stays_ms=60)),
        ),
        Family("push", "server push at once", UVICORNS, _pushes, policy=PATIENT, at_most=20),
        Family("gone", "client gone before accept", SERVERS, leaving.gone_before_accept, quiet_log=True),
        _departure("send-and-leave", "send and leave", leaving.SEND_AND_LEAVE),
        _departure("send-and-reset", "send and reset", leaving.SEND_AND_RESET),
        _departure("leave-mid-stream", "leave in mid-stream", leaving.LEAVE_MID_STREAM),
    )
}
