"""The families of clients that leave: crowds of leavers, and what the application wrote down of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable

from tests.backends import wire
from tests.backends.launch import Server
from tests.race.clients import PATIENCE_S, Outcome
from tests.race.family import Run
from tests.race.leavers import LEAVERS, PROMPT_MS, Manner, Visit, say_and_leave, visit

SETTLED_S = 2.0
DEPARTED_S = 5.0  # longer than departure.max_ms: until then the backend need not know that a client is gone
# daphne looks once a second whether an application has failed, and only then logs it.
LOGS_WITHIN_S = {"daphne": 1.5}

SEND_AND_LEAVE = (Manner("close"), Manner("close", asks=1, hears=1))
SEND_AND_RESET = (
    Manner("reset"),
    Manner("end"),
    Manner("reset", asks=1, hears=1),
    Manner("end", asks=1, hears=1),
)
TOKENS = 30
LEAVE_MID_STREAM = tuple(
    Manner(by, asks=1, hears=hears, parts=TOKENS, last_words=False)
    for hears in (1, 3, 8)
    for by in ("close", "reset", "end")
)


async def gone_before_accept(run: Run) -> list[Outcome]:
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

    outcomes = await run.crowd(one)
    ours = {f"{run.label}-{number}": texts for number, texts in said.items() if texts}

    def complete(books: dict) -> bool:
        whole = all(books["inbox"].get(device) == texts for device, texts in ours.items())
        return whole and set(books["arrived"]) == set(books["connected"])

    nothing = {"arrived": [], "connected": [], "inbox": {}}
    books = await settled(run.backend, "/ws/ingest", complete, SETTLED_S) or nothing
    for outcome in outcomes:
        _judge_leaver(outcome, f"{run.label}-{outcome.number}", said.get(outcome.number, []), books)
    return outcomes


def _judge_leaver(outcome: Outcome, device: str, said: list[str], books: dict) -> None:
    silent = not LEAVERS[outcome.number % len(LEAVERS)].says
    accepted = device in books["connected"]
    outcome.opened = accepted or (silent and device not in books["arrived"])
    if not outcome.opened:
        outcome.why = "accept() failed" if device in books["arrived"] else "never arrived"
    outcome.judge(_bytes(said), _bytes(books["inbox"].get(device, [])))


def visits(*manners: Manner) -> Callable[[Run], Awaitable[list[Outcome]]]:
    """Return the clients of a family that leave open sessions in these manners, one after the other."""

    async def clients(run: Run) -> list[Outcome]:
        seen = await visited(run, manners, through_gate=run.label == "gate")
        return [one.outcome for one in seen]

    return clients


async def visited(run: Run, manners: tuple[Manner, ...], *, through_gate: bool) -> list[Visit]:
    """Let everybody come and go, wait until the application knows it, and judge."""

    async def one(number: int) -> Visit:
        manner = manners[number % len(manners)]
        wait = random.Random(f"{run.label}/{number}").uniform(0.01, 0.05) if manner.parts == 1 else 0.01
        path = f"/ws/ask/{run.label}-{number}?wait={wait:.3f}&parts={manner.parts}"
        return await visit(run.address, path, number, manner)

    seen = await run.crowd(one)
    ours = {f"{run.label}-{one.number}": one for one in seen if one.said}

    def complete(book: dict) -> bool:
        return all(
            who in book and not book[who]["open"] and len(book[who]["said"]) >= len(one.said)
            for who, one in ours.items()
        )

    book = await settled(run.backend, "/ws/ask", complete, DEPARTED_S)
    await asyncio.sleep(LOGS_WITHIN_S.get(run.backend.name, 0))
    for current in seen:
        entry = book.get(f"{run.label}-{current.number}", {"open": 0, "said": [], "codes": []})
        judge(current, entry)
        if through_gate:
            judge_codes(current, entry, run.backend.name)
    return seen


def judge(seen: Visit, entry: dict) -> None:
    """Compare what it said with what the application wrote down, and what it heard with the answers."""
    outcome = seen.outcome
    heard = seen.answers[: max(len(seen.heard), seen.manner.hears)]
    outcome.judge(_bytes(seen.said) + heard, _bytes(entry["said"]) + seen.heard)
    if entry["open"]:
        outcome.why = outcome.why or "the backend never heard that it left"
    elif outcome.close_ms is not None and outcome.close_ms > PROMPT_MS:
        outcome.why = outcome.why or f"Close answered after more than {PROMPT_MS:.0f} ms"


def judge_codes(seen: Visit, entry: dict, server: str) -> None:
    """Its Close must have been answered with its own code, and the application have heard of the same end.

    The gate's duty only: a server "typically echos" the code (RFC 6455 section 5.5.1), but daphne says 1000.
    """
    outcome, polite = seen.outcome, seen.manner.by == "close"
    if outcome.why:
        return
    if polite and outcome.close_code != seen.code:
        outcome.why = "Close answered with another code"
    # hypercorn tells an application 1006, whatever the client said.
    ends = {seen.code} if polite and server != "hypercorn" else {1005, 1006}
    if len(entry["codes"]) != 1 or entry["codes"][0] not in ends:
        outcome.why = outcome.why or f"the backend heard of another end: {entry['codes']}"


def _bytes(texts: list[str]) -> list[bytes]:
    return [text.encode() for text in texts]


async def settled(backend: Server, path: str, complete: Callable[[dict], bool], unchanged_s: float) -> dict:
    """Ask the backend for its books until they are complete, or have not changed for a while."""
    loop = asyncio.get_running_loop()
    before, changed, began = None, loop.time(), loop.time()
    while True:
        books = await _books((backend.host, backend.port), path)
        if books and complete(books):
            return books
        if books != before:
            before, changed = books, loop.time()
        if loop.time() - changed > unchanged_s or loop.time() - began > PATIENCE_S:
            return books
        await asyncio.sleep(0.1)


async def _books(address: tuple[str, int], path: str) -> dict:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    async with await wire.Wire.dial(address, request) as client:
        with contextlib.suppress(wire.ClosedError):
            return json.loads(await client.body())
    return {}
