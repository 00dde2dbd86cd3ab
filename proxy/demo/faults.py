"""The faults of racy backends as clients meet them: the same clients, directly and through the gate."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

import aiohttp

from proxy.demo.services import PRICES
from proxy.probe.cases import CASES
from proxy.probe.client import Connection, Manner, converse
from proxy.probe.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.demo.stage import Stage
    from proxy.probe.client import Observation
    from proxy.probe.target import Target

_EARLY: Final = CASES[0]
_AT_ONCE: Final = CASES[1]
_ANSWER_S: Final = 1.5
_MANNER: Final = Manner(b"hello", open_timeout_s=15.0, answer_timeout_s=_ANSWER_S)
_DEAF_S: Final = 0.1  # how long a client needs until its WebSocket code runs
_PATIENCE_S: Final = 0.04  # how long a client waits that leaves before it is accepted
_LATE_S: Final = 0.7  # how much later than what needs it a service comes up; longer than a crowd comes
_SETTLE_S: Final = 5.0
_CROWD_S: Final = 0.5  # how long a crowd takes to come; all at once only after a restart
_STEP_S: Final = 0.05
_AWAY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """What `clients` got: how many were `served`, what others got `instead`, `errors` that the log got."""

    clients: int
    served: int
    instead: dict[str, int]
    answer_ms: float | None = None
    errors: int | None = None


@dataclass(slots=True)
class Fault:
    """One row of the table: `results` by road (`direct`, `gate`). `shows_time`: how long it took matters."""

    title: str
    shows_time: bool = False
    results: dict[str, Result] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Faults:
    """All rows, in the order in which they are shown."""

    early: Fault
    restart: Fault
    before_accept: Fault
    after_accept: Fault
    push: Fault
    gone: Fault
    healthy: Fault

    @classmethod
    def unmeasured(cls) -> Faults:
        """Return the rows without any result."""
        return cls(
            early=Fault("first frame in the segment of the upgrade"),
            restart=Fault("backend restarts: nobody listens yet"),
            before_accept=Fault("backend starts: handler raises before accept()"),
            after_accept=Fault("backend starts: accepted, then dropped"),
            push=Fault("server pushes at once, client starts 100 ms late"),
            gone=Fault("client gone before accept()"),
            healthy=Fault("no fault: a healthy backend", shows_time=True),
        )

    def rows(self) -> tuple[Fault, ...]:
        """List them."""
        return tuple(getattr(self, each.name) for each in fields(self))


async def measure(stage: Stage, clients: int, say: Callable[[str], None]) -> Faults:
    """Fire `clients` at every fault, directly and through the gate; about 10 s in all."""
    faults = Faults.unmeasured()
    roads = (("direct", stage.backend_port), ("gate", stage.gate_port))
    for road, port in roads:
        say(f"{road}: a cold start of the backend ...")
        await _cold_start(stage, faults, road, port, clients)
    say("the gate starts anew, since it waits longer for a minute after such a start")
    await stage.start_gate()
    for road, port in roads:
        say(f"{road}: a backend that is up ...")
        await _up(stage, faults, road, port, clients)
    return faults


async def _cold_start(stage: Stage, faults: Faults, road: str, port: int, clients: int) -> None:
    """Restart the backend, with clients at every moment of its start; its services come up late."""
    stage.sessions.down()
    stage.prices.down()
    await stage.stop_backend()
    chat, prices, echo = (_target(port, path) for path in ("chat", "prices", "echo"))
    async with asyncio.TaskGroup() as crowds:
        restart = crowds.create_task(_crowd((_ask(echo) for _ in range(clients)), within_s=0))
        await stage.start_backend()
        after = crowds.create_task(_crowd(_listen(prices) for _ in range(clients)))
        await asyncio.sleep(_LATE_S)
        await stage.prices.up()
        before = crowds.create_task(_crowd(_ask(chat) for _ in range(clients)))
        await asyncio.sleep(_LATE_S)
        await stage.sessions.up()
    faults.restart.results[road] = restart.result()
    faults.before_accept.results[road] = before.result()
    faults.after_accept.results[road] = after.result()


async def _up(stage: Stage, faults: Faults, road: str, port: int, clients: int) -> None:
    """Everything runs; what is left are the faults of ordinary days."""
    chat, prices, echo = (_target(port, path) for path in ("chat", "prices", "echo"))
    faults.early.results[road] = await _crowd(_ask(chat, early=True) for _ in range(clients))
    faults.push.results[road] = await _crowd(_listen(prices, _DEAF_S) for _ in range(clients))
    faults.gone.results[road] = await _gone(stage, chat, clients)
    faults.healthy.results[road] = await _crowd(_ask(echo) for _ in range(clients))


async def _crowd(clients: Iterable[Awaitable[float | str]], within_s: float = _CROWD_S) -> Result:
    """Let them come one by one; each tells after how many ms it was served, or what it got instead."""
    all_clients = list(clients)

    async def come(place: int, client: Awaitable[float | str]) -> float | str:
        await asyncio.sleep(place * within_s / len(all_clients))
        return await client

    told = await asyncio.gather(*(come(place, client) for place, client in enumerate(all_clients)))
    served = [one for one in told if isinstance(one, float)]
    instead = Counter(one for one in told if isinstance(one, str))
    return Result(len(told), len(served), dict(instead), statistics.median(served) if served else None)


async def _ask(target: Target, *, early: bool = False) -> float | str:
    """Say something, await the answer; ms from the connect to it."""
    seen = await converse(target, _EARLY if early else _AT_ONCE, _MANNER)
    if seen.open_ms is None or seen.answer_ms is None:
        return _instead(seen)
    return seen.answer_ms + (0 if early else seen.open_ms)


async def _listen(target: Target, deaf_s: float = 0.0) -> float | str:
    """Await all prices in order, but lose what comes in the first `deaf_s`; ms from the 101 to the last."""
    connection = Connection(_MANNER)
    try:
        if not await connection.open(target, early=False, context=None):
            return _instead(connection.observed())
        opened = time.perf_counter()
        if deaf_s:
            await connection.miss(deaf_s)
        await connection.listen(_ANSWER_S, lambda: len(connection.messages) >= len(PRICES))
        took_ms = (time.perf_counter() - opened) * 1000
        complete = [json.loads(message) for message in connection.messages] == list(PRICES)
        await connection.leave()
        return took_ms if complete else _instead(connection.observed())
    finally:
        connection.drop()


def _instead(seen: Observation) -> str:
    if seen.status is not None:
        return f"HTTP {seen.status}"
    if seen.failure is not None:
        return seen.failure
    return "lost" if seen.close_code in {None, 1000} else f"closed {seen.close_code}"


async def _gone(stage: Stage, target: Target, clients: int) -> Result:
    """Leave while the handler looks the session up; count what that does to the backend's log."""
    errors_before = stage.backend.errors
    impatient = Manner(b"", open_timeout_s=_PATIENCE_S)
    await asyncio.gather(*(converse(target, _AT_ONCE, impatient) for _ in range(clients)))
    await _settled(stage)
    return Result(clients, 0, {}, errors=stage.backend.errors - errors_before)


async def _settled(stage: Stage) -> None:
    """Wait until no handler of the backend runs any more, seen twice in a row."""
    url = f"http://127.0.0.1:{stage.backend_port}/ws/stats"
    quiet = 0
    async with aiohttp.ClientSession() as session, asyncio.timeout(_SETTLE_S):
        while quiet < 2:  # noqa: PLR2004 - twice
            await asyncio.sleep(_STEP_S)
            async with session.get(url) as answer:
                quiet = 0 if (await answer.json())["open"] else quiet + 1


async def visit(stage: Stage, path: str = "chat", stay_s: float = 0.0) -> None:
    """Come once more, as an ordinary client of the gate does, have an answer, and stay for a while."""
    connection = Connection(_MANNER)
    try:
        if await connection.open(_target(stage.gate_port, path), early=False, context=None):
            connection.say()
            await connection.listen(_ANSWER_S, lambda: bool(connection.messages))
            await connection.listen(stay_s)
            await connection.leave()
    finally:
        connection.drop()


async def visit_too_soon(stage: Stage, path: str = "chat", stay_s: float = 0.0) -> None:
    """Do so while the session store is away for a moment: the backend fails, and is asked again."""
    stage.sessions.down()
    async with asyncio.TaskGroup() as both:
        both.create_task(visit(stage, path, stay_s))
        try:
            await asyncio.sleep(_AWAY_S)
        finally:
            await stage.sessions.up()


def _target(port: int, path: str) -> Target:
    return parse_target(f"ws://127.0.0.1:{port}/ws/{path}")
