"""The deployment: pairs behind the front end, a crowd of clients, and one pair after the other replaced."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.backends.front import policy_file
from tests.rehearsal.clients import Crowd
from tests.rehearsal.front_end import FrontEnd, Look
from tests.rehearsal.network import Place
from tests.rehearsal.pair import Ended, Pair
from tests.rehearsal.verdict import SHARE_AND, Away, Messages, Peak, Roll, by_roll, peak, settle

GATE_FIRST, BOTH = "gate-first", "both"
SAMPLE_S = 0.1
SERVED_S = 60.0
BETWEEN_S = 1.0
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed. `surge`: whether the new pair is started before the old one is stopped."""

    pairs: int
    sessions: int
    spread_s: float
    pause_s: float
    every_s: float
    balance: str
    order: str
    surge: bool
    app_waits_s: float
    slack_s: float
    seed: str


@dataclass(slots=True)
class Rehearsal:
    """What is seen of it; `wrong` is what must not be."""

    plan: Plan
    looks: list[Look] = field(default_factory=list)
    rolls: list[Roll] = field(default_factory=list)
    last: list[Ended] = field(default_factory=list)
    messages: Messages = field(default_factory=Messages)
    counted: dict[str, int] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    aways: list[Away] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def peak(self) -> Peak:
        return peak(self.looks, self.plan.sessions, self.plan.pairs)

    def wrong(self) -> list[str]:
        """Return all that must not be, a sentence each."""
        plan, said = self.plan, self.messages.wrong() + self.trouble
        for roll, away in zip(self.rolls, self.aways, strict=True):
            said += [f"{roll.old}: {what}" for what in away.wrong(plan.spread_s, plan.pause_s, plan.slack_s)]
            said += [f"{roll.old}: {what}" for what in roll.ended.wrong()]
        said += [f"a pair at the end: {what}" for ended in self.last for what in ended.wrong()]
        if self.peak.ratio > SHARE_AND:
            said.append(f"{self.peak.pair} had {self.peak.ratio:.2f} of its share, more than {SHARE_AND:g}")
        return said

    async def through(self, place: Callable[[int], Place]) -> None:
        """Go through it. `place(number)` says where a pair stands: as many again as there are at a time."""
        with ExitStack() as stack:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="readygate-rehearsal-")))
            policy = stack.enter_context(
                policy_file(f"extends: production\ndrain: {{spread_s: {self.plan.spread_s}}}\n")
            )
            places = [place(number) for number in range(2 * self.plan.pairs)]
            front = stack.enter_context(FrontEnd(places, self.plan.balance))
            await _Deployment(self, front, room, policy, stack).run(places)


class _Deployment:
    """A rehearsal under way."""

    def __init__(self, seen: Rehearsal, front: FrontEnd, room: Path, policy: str, stack: ExitStack) -> None:
        self._seen, self._plan, self._front = seen, seen.plan, front
        self._room, self._policy, self._stack = room, policy, stack
        plan = seen.plan
        self._crowd = Crowd(front.address, plan.sessions, plan.seed, plan.every_s, plan.pause_s, AT_ONCE)
        self._pairs: list[Pair] = []

    async def run(self, places: list[Place]) -> None:
        """Start, roll every pair once, end; then settle the accounts."""
        serving = await asyncio.gather(*(self._start(place) for place in places[: self._plan.pairs]))
        self._crowd.set_out()
        await self._crowd.all_served(SERVED_S)
        sampling = asyncio.create_task(self._sample())
        for old, place in zip(tuple(serving), places[self._plan.pairs :], strict=True):
            await asyncio.sleep(BETWEEN_S)
            serving.append(await self._roll(old, place))
            serving.remove(old)
        await asyncio.sleep(BETWEEN_S)
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling
        await self._crowd.leave()
        self._seen.counted = await self._front.counted()
        self._seen.last = await asyncio.gather(*(pair.retire() for pair in serving))
        self._settle()

    async def _start(self, place: Place) -> Pair:
        pair = Pair(place, self._room, self._policy, self._plan.app_waits_s)
        self._stack.callback(pair.kill)
        self._pairs.append(pair)
        await pair.ready()
        await self._front.add(place)
        return pair

    async def _roll(self, old: Pair, place: Place) -> Pair:
        """Replace a pair; the front end hears of the old one's end only from its health check."""
        new = await self._start(place) if self._plan.surge else None
        held = (await self._front.look()).sessions[old.place.name]
        signalled_s = asyncio.get_running_loop().time()
        ended = await old.retire(both=self._plan.order == BOTH)
        await self._front.remove(old.place)
        new = new or await self._start(place)
        self._seen.rolls.append(Roll(old.place.name, new.place.name, held, signalled_s, ended))
        await self._crowd.all_served(SERVED_S)
        return new

    async def _sample(self) -> None:
        while True:
            self._seen.looks.append(await self._front.look())
            await asyncio.sleep(SAMPLE_S)

    def _settle(self) -> None:
        seen, crowd = self._seen, self._crowd
        seen.messages = settle(crowd.accounts, [pair.records() for pair in self._pairs])
        before, *during = by_roll(seen.rolls, crowd.absences)
        seen.aways = [Away.of(roll, those) for roll, those in zip(seen.rolls, during, strict=True)]
        seen.refusals = crowd.refusals
        seen.trouble += crowd.trouble
        seen.trouble += [f"{one.client} was closed with {one.code} before any roll" for one in before]
