"""One chaos from its start to its verdict."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import asdict, dataclass, field

from tests.chaos.accounts import Account, Totals, read_journal, settle
from tests.chaos.clients import Fleet
from tests.chaos.harm import COLUMNS, HEADINGS, Harm, Row, end_of
from tests.chaos.leftovers import Reading, given_back, left_over_or_swollen, read, settled
from tests.chaos.logs import backend_errors, gate_errors
from tests.chaos.phases import PHASES, Fault, Scene, killed
from tests.chaos.stand import Stand

WARM_UP_S = 3.0
ENDED_WITHIN_S = 15.0
BACK_WITHIN_S = 30.0
STEP_S = 0.1


@dataclass(slots=True)
class Verdict:
    """What came out of it. `wrong`: (where, sentence)."""

    rows: list[Row] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    backend_log: dict[str, int] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    gate_log: str = ""
    backend_text: str = ""

    def record(self) -> dict[str, object]:
        return {
            "phases": [row.record() for row in self.rows],
            "readings": [asdict(reading) for reading in self.readings],
            "totals": asdict(self.totals),
            "backend_log": self.backend_log,
            "wrong": self.wrong,
        }


@dataclass(slots=True)
class Run:
    """Sessions, how long to talk in each phase, the seed, and which phases."""

    sessions: int
    talk_s: float
    seed: str
    names: list[str]
    verdict: Verdict = field(default_factory=Verdict)

    async def through(self, policy: str) -> None:
        """Start everything, go through the phases, and judge what is left."""
        async with Stand.up(policy) as stand:
            try:
                warm_up, before = await self._warm_up(stand)
                accounts = warm_up | await self._phases(stand)
                await self._aftermath(stand, before)
                self._settle(stand, accounts)
            finally:
                stand.keep_log()
                self.verdict.gate_log, self.verdict.backend_text = stand.gate.log(), stand.backend_log
                self.verdict.backend_log = backend_errors(stand.backend_log)

    async def _warm_up(self, stand: Stand) -> tuple[dict[str, Account], Reading]:
        """Let as many sessions as later come, lose their backend, come back and go.

        What is compared with is so a process that has held all of them, and all their handshakes at once.
        """
        self.verdict.readings.append(await read(stand.gate))
        fleet = Fleet("warm-up-", stand.clients_side.address, self.sessions, self.seed)
        fleet.set_out()
        await self._all_served(fleet, "warm-up")
        await killed(Scene(stand, fleet, random.Random(self.seed)), Harm())
        await self._all_served(fleet, "warm-up")
        await asyncio.sleep(WARM_UP_S)
        await self._farewell(fleet, "warm-up")
        before = await settled(stand.gate)
        self.verdict.readings.append(before)
        return fleet.accounts, before

    async def _phases(self, stand: Stand) -> dict[str, Account]:
        fleet = Fleet("", stand.clients_side.address, self.sessions, self.seed)
        fleet.set_out()
        await self._all_served(fleet, "begin")
        print(COLUMNS.format(*HEADINGS), flush=True)
        scene = Scene(stand, fleet, random.Random(self.seed))
        for name in self.names:
            row = await self._phase(scene, name, PHASES[name])
            self.verdict.rows.append(row)
            self.verdict.wrong += [(name, what) for what in row.wrong]
            print(row.line(), flush=True)
        await self._farewell(fleet, "farewell")
        return fleet.accounts

    async def _phase(self, scene: Scene, name: str, fault: Fault) -> Row:
        loop, fleet, harm = asyncio.get_running_loop(), scene.fleet, Harm()
        began_s, alive = loop.time(), fleet.living()
        await fault(scene, harm)
        await _until(lambda: not harm.pending(fleet.living()), ENDED_WITHIN_S)
        wrong = await _freed(scene.stand, harm)
        for undo in harm.undo:
            undo()
        back_s = await self._all_served(fleet, name)
        await asyncio.sleep(self.talk_s)
        ended = {one.identity for one in fleet.accounts.values() if one.end and one.ended_s >= began_s}
        ends = Counter(end_of(fleet.accounts[identity]) for identity in ended)
        wrong += harm.judge(fleet.accounts, ended)
        assert ended | fleet.living() >= alive
        return Row(name, loop.time() - began_s, len(harm.allowed), ends, back_s, wrong)

    async def _all_served(self, fleet: Fleet, name: str) -> float:
        """Wait until every client has a connection that works; return how long that took."""
        took_s = await _until(lambda: fleet.served == len(fleet.clients), BACK_WITHIN_S)
        if took_s is None:
            missing = len(fleet.clients) - fleet.served
            self.verdict.wrong.append((name, f"{missing} clients were not served again"))
        return BACK_WITHIN_S if took_s is None else took_s

    async def _farewell(self, fleet: Fleet, name: str) -> None:
        self.verdict.wrong += [(name, f"{identity}: could not leave") for identity in await fleet.leave()]

    async def _aftermath(self, stand: Stand, before: Reading) -> None:
        after = await given_back(stand.gate, before, left_over_or_swollen)
        self.verdict.readings.append(after)
        self.verdict.wrong += [("aftermath", what) for what in left_over_or_swollen(before, after)]
        if stand.gate.process.poll() is not None:
            self.verdict.wrong.append(("aftermath", f"the gate ended with {stand.gate.process.returncode}"))

    def _settle(self, stand: Stand, accounts: dict[str, Account]) -> None:
        with stand.journal.open() as journal:
            self.verdict.totals = settle(accounts.values(), read_journal(journal))
        self.verdict.wrong += [("accounts", f"{who}: {what}") for who, what in self.verdict.totals.wrong]
        self.verdict.wrong += [("gate's log", line[:2000]) for line in gate_errors(stand.gate.log())]


async def _until(true, within_s: float) -> float | None:
    """Look again until it is true; return how long that took, None if it was not within the bound."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not true():
        if loop.time() - began_s > within_s:
            return None
        await asyncio.sleep(STEP_S)
    return loop.time() - began_s


async def _freed(stand: Stand, harm: Harm) -> list[str]:
    """Wait until the gate has let go whom it must; return a sentence for each that it has not in time."""
    loop, waiting, wrong = asyncio.get_running_loop(), dict(harm.free_by), []
    while waiting:
        held = await stand.sessions()
        waiting = {identity: by_s for identity, by_s in waiting.items() if identity in held}
        late = [identity for identity, by_s in waiting.items() if loop.time() > by_s]
        wrong += [f"{identity}: the gate still has its session" for identity in late]
        for identity in late:
            del waiting[identity]
        if waiting:
            await asyncio.sleep(STEP_S * 3)
    return wrong
