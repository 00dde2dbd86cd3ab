"""The fault families of the race: which servers, which clients, which policy for the gate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.backends import launch, wire
from tests.backends.launch import Server
from tests.race.clients import LEAVERS, PATIENCE_S, Address, Outcome, Script, say_and_leave, talk

DOWN_S = 3.0
SETTLED_S = 2.0
UVICORNS = tuple(f"uvicorn-{flavour}" for flavour in launch.UVICORN_FLAVOURS)
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


@dataclass(slots=True)
class Run:
    """One family on one server, one way: where to connect, how many connections, how many at a time.

    `begin` starts the backend of a late family; `backend` is None until then.
    """

    address: Address
    backend: Server | None
    begin: Callable[[], Server]
    label: str
    count: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Family:
    """A fault family. A `late` backend is started by the clients, a `quiet_log` must stay empty.

    `at_most` so many clients at a time, where a client that is too busy to read would spoil the result.
    """

    name: str
    title: str
    servers: tuple[str, ...]
    clients: Callable[[Run], Awaitable[list[Outcome]]]
    policy: str = "production"
    late: bool = False
    quiet_log: bool = False
    at_most: int = 1000

    def start(self, server: str, port: int) -> Server:
        if self.late:
            return launch.uvicorn(server.removeprefix("uvicorn-"), port=port, wait=False)
        return launch.flaky(port=port) if server == "flaky" else launch.BACKENDS[server](port=port)


async def _crowd(run: Run, one: Callable[[int], Awaitable[Outcome]]) -> list[Outcome]:
    """Run `one` for each number, at most `concurrency` at a time."""
    gate = asyncio.Semaphore(run.concurrency)

    async def entered(number: int) -> Outcome:
        async with gate:
            return await one(number)

    return await asyncio.gather(*(entered(number) for number in range(run.count)))


def _talks(path: str, script: Script) -> Callable[[Run], Awaitable[list[Outcome]]]:
    async def clients(run: Run) -> list[Outcome]:
        async def one(number: int) -> Outcome:
            dice = random.Random(f"{run.label}/{number}")
            here = path.format(
                id=f"{run.label}-{number}", wait=f"{dice.uniform(0.2, 0.5):.3f}", **_turn(number)
            )
            return await talk(run.address, here, script, number)

        return await _crowd(run, one)

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

    return await _crowd(run, one)


async def _leavers(run: Run) -> list[Outcome]:
    """Clients that are gone before the application accepts: what they said must arrive, once and in order."""
    said: dict[int, list[str]] = {}

    async def one(number: int) -> Outcome:
        dice = random.Random(f"{run.label}/{number}")
        path = f"/ws/ingest/{run.label}-{number}?wait={dice.uniform(0.2, 0.5):.3f}"
        outcome = Outcome(number)
        try:
            said[number] = await say_and_leave(run.address, path, number, dice)
        except OSError as error:
            outcome.why = type(error).__name__
        return outcome

    outcomes = await _crowd(run, one)
    books = await _settled(run, said)
    for outcome in outcomes:
        _judge_leaver(outcome, f"{run.label}-{outcome.number}", said.get(outcome.number, []), books)
    return outcomes


def _judge_leaver(outcome: Outcome, device: str, said: list[str], books: dict) -> None:
    silent = not LEAVERS[outcome.number % len(LEAVERS)].says
    accepted = device in books["connected"]
    outcome.opened = accepted or (silent and device not in books["arrived"])
    if not outcome.opened:
        outcome.why = "accept() failed" if device in books["arrived"] else "never arrived"
    outcome.judge(
        [text.encode() for text in said], [text.encode() for text in books["inbox"].get(device, [])]
    )


async def _settled(run: Run, said: dict[int, list[str]]) -> dict:
    """Ask the backend what arrived until all of it did, or nothing changed for a while."""
    loop = asyncio.get_running_loop()
    ours = {f"{run.label}-{number}": texts for number, texts in said.items() if texts}
    before, changed, began = None, loop.time(), loop.time()
    while True:
        books = await _ingested((run.backend.host, run.backend.port))
        complete = all(books["inbox"].get(device) == texts for device, texts in ours.items())
        if complete and set(books["arrived"]) == set(books["connected"]):
            return books
        if books != before:
            before, changed = books, loop.time()
        if loop.time() - changed > SETTLED_S or loop.time() - began > PATIENCE_S:
            return books
        await asyncio.sleep(0.1)


async def _ingested(address: Address) -> dict:
    request = b"GET /ws/ingest HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    client = await wire.Wire.dial(address, request)
    with contextlib.suppress(wire.ClosedError):
        return json.loads(await client.body())
    return {"arrived": [], "connected": [], "inbox": {}}


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "early",
            "early frame in the same segment",
            (*UVICORNS, "hypercorn", "daphne"),
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
        Family("gone", "client gone before accept", UVICORNS, _leavers, quiet_log=True),
    )
}
