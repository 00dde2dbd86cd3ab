"""The handshake core: whatever happens in whatever order, it never raises, always ends, and tells the truth.

An input is a script: a line of JSON with the plan, then one for each thing that happens. A thing that cannot
happen when its turn comes is left out, so a script stays good when the core changes.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.core.events import (
    BytesAcked,
    BytesReceived,
    ClientAccepted,
    DrainStarted,
    LegLost,
    TimerFired,
    UpgradeRequested,
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.plan import Accept, Evidence, HandshakePlan, OnExpiry, RedialPlan, Role, StagePlan, WindowPlan
from tests.core.script import AT_ONCE, SKIP, handshake_plan, leg_plan
from tests.fuzz.peer import KINDS
from tests.fuzz.target import Target
from tests.fuzz.world import CLIENT, OFFERED, UPSTREAM, World

LEGS = {
    "production": leg_plan(),
    "bare": leg_plan(propagation=SKIP, validation=SKIP, stabilization=AT_ONCE),
    "strict": leg_plan(
        propagation=StagePlan(Evidence.ACKED, 50.0, OnExpiry.FAIL),
        validation=StagePlan(Evidence.PONG, 75.0, OnExpiry.FAIL),
        announcement=StagePlan(Evidence.MESSAGE, 2000.0, OnExpiry.FAIL),
    ),
    "small": leg_plan(announcement=StagePlan(Evidence.MESSAGE, 60_000.0), early_bytes=30),
    "fixed": leg_plan(
        propagation=StagePlan(Evidence.FIXED, 50.0),
        validation=StagePlan(Evidence.FRAME, 50.0),
        stabilization=StagePlan(Evidence.FIXED, 25.0),
    ),
    "learned": leg_plan(stabilization=WindowPlan(0.0, 25.0)),
}
LENGTH = 50
_BATCH = 50


def plan_of(words: dict[str, Any]) -> HandshakePlan:
    """Return the plan that the first line of a script names."""
    return replace(
        handshake_plan(),
        accept=Accept(words["accept"]),
        client=LEGS[words["client"]],
        upstream=LEGS[words["upstream"]],
        redial=RedialPlan(tries=words["tries"]),
        eager_subprotocols=tuple(words["eager"]),
        message_bytes=words["limit"],
    )


class Stage:
    """Lets things happen in a world, and keeps the script of what did."""

    def __init__(self, **plan: Any) -> None:
        self.lines: list[dict[str, Any]] = [plan]
        self.world = World(plan_of(plan), plan["measurable"])
        self.world.feed(UpgradeRequested(0.0, OFFERED))

    def can(self, what: str, role: str = "") -> bool:  # noqa: PLR0911 - one row a thing
        """Whether this can happen now."""
        world = self.world
        match what:
            case "connected" | "unreachable":
                return world.dial == "waiting"
            case "accepted" | "rejected":
                return world.dial == "upgrading"
            case "client accepted":
                return world.accepting
            case "acked":
                return Role(role) in world.polls
            case "says":
                return world.can_say(Role(role))
            case "lost":
                return world.can_be_lost(Role(role))
            case "timer":
                return world.armed is not None
            case "late timer":
                return world.overdue
            case "drain":
                return not world.finished
        return what == "wait"

    def do(self, do: str, **how: Any) -> None:
        """Let something happen, if it can."""
        if not self.can(do, how.get("role", "")):
            return
        self.lines.append({"do": do, **how})
        world = self.world
        now = world.now
        match do:
            case "wait":
                self._wait(how["ms"])
            case "connected":
                world.feed(UpstreamConnected(now))
            case "unreachable":
                world.feed(UpstreamUnreachable(now, "refused"))
            case "accepted":
                self._accepted(how["subprotocol"], how["extensions"], how["tail"], how["cut"])
            case "rejected":
                world.feed(UpstreamRejected(now, how["status"], held=how["held"]))
            case "client accepted":
                world.feed(ClientAccepted(now))
            case "acked":
                world.feed(BytesAcked(now, Role(how["role"])))
            case "says":
                peer = world.peer(Role(how["role"]))
                if data := peer.say(how["kinds"], how["cut"]):
                    world.feed(BytesReceived(now, Role(how["role"]), data))
            case "lost":
                world.feed(LegLost(now, Role(how["role"])))
            case "timer" | "late timer":
                due = now if world.armed is None or do == "late timer" else max(world.armed, now)
                world.feed(TimerFired(due + how["late_ms"]))
            case "drain":
                world.feed(DrainStarted(now))

    def _wait(self, ms: float) -> None:
        """Let time pass. A timer that was due meanwhile is overdue: its event waits behind a poll."""
        world = self.world
        world.now += ms
        world.overdue = world.overdue or (world.armed is not None and world.now >= world.armed)

    def _accepted(
        self, subprotocol: str | None, extensions: str | None, tail: list[str], cut: int | None
    ) -> None:
        world = self.world
        world.upstream.up = True
        data = world.upstream.say(tail, cut) if tail else b""
        world.feed(UpstreamAccepted(world.now, subprotocol, extensions, data))

    def end(self) -> None:
        """Let all timers fire, then what may come late, and judge the whole."""
        world, timers = self.world, 0
        while world.armed is not None:
            self.do("timer", late_ms=0)
            timers += 1
            assert timers < 500, "the timer spins"
        self.do("accepted", subprotocol=None, extensions=None, tail=["text"], cut=None)
        self.do("client accepted")
        for role in (UPSTREAM, CLIENT):
            self.do("says", role=str(role), kinds=["text"], cut=None)
            self.do("lost", role=str(role))
        world.judge()

    def script(self) -> bytes:
        """Return what happened, in lines."""
        return "".join(json.dumps(line) + "\n" for line in self.lines).encode()


def check(data: bytes) -> None:
    """Play a script."""
    first, *steps = [json.loads(line) for line in data.splitlines()]
    stage = Stage(**first)
    for step in steps:
        stage.do(**step)
    stage.end()


KIND_LISTS = st.lists(st.sampled_from(KINDS), max_size=3)
CUTS = st.none() | st.integers(1, 12)
ROLES = st.sampled_from([str(CLIENT), str(UPSTREAM)])
SELDOM = st.integers(0, 7)  # 0: it happens


class Machine(RuleBasedStateMachine):
    """Chooses what happens. What would end a handshake at once is seldom let happen, so that most get far."""

    played: ClassVar[int] = 0
    last: ClassVar[Stage | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    @initialize(
        accept=st.sampled_from([str(each) for each in Accept]),
        client=st.sampled_from(sorted(LEGS)),
        upstream=st.sampled_from(sorted(LEGS)),
        tries=st.integers(1, 3),
        limit=st.sampled_from([None, 125]),
        eager=st.sampled_from([[], ["chat"], ["superchat", "chat"]]),
        measurable=st.booleans(),
    )
    def request(self, **plan: Any) -> None:
        Machine.played += 1
        self.stage = Machine.last = Stage(**plan)

    def do(self, what: str, **how: Any) -> None:
        try:
            self.stage.do(what, **how)
        except BaseException:
            self.broken = True
            raise

    def can(self, what: str) -> bool:
        return self.stage.can(what)

    @precondition(lambda self: self.can("connected"))
    @rule()
    def connected(self) -> None:
        self.do("connected")

    @precondition(lambda self: self.can("unreachable"))
    @rule(seldom=SELDOM)
    def unreachable(self, seldom: int) -> None:
        if seldom < 2:
            self.do("unreachable")

    @precondition(lambda self: self.can("accepted"))
    @rule(other=SELDOM, tail=KIND_LISTS, cut=CUTS)
    def accepted(self, other: int, tail: list[str], cut: int | None) -> None:
        world = self.stage.world
        agreed = "chat" if "chat" in world.plan.eager_subprotocols else None
        if other == 0:
            agreed = "superchat"
        extensions = "permessage-deflate" if other == 1 else None
        self.do("accepted", subprotocol=agreed, extensions=extensions, tail=tail, cut=cut)

    @precondition(lambda self: self.can("rejected"))
    @rule(seldom=SELDOM, status=st.sampled_from([403, 500, 503]), held=st.booleans())
    def rejected(self, seldom: int, status: int, held: bool) -> None:
        if seldom < 2:
            self.do("rejected", status=status, held=held)

    @precondition(lambda self: self.can("client accepted"))
    @rule()
    def client_accepted(self) -> None:
        self.do("client accepted")

    @rule(role=ROLES)
    def acked(self, role: str) -> None:
        self.do("acked", role=role)

    @rule(role=ROLES, kinds=KIND_LISTS, cut=CUTS)
    def says(self, role: str, kinds: list[str], cut: int | None) -> None:
        self.do("says", role=role, kinds=kinds, cut=cut)

    @rule(role=ROLES)
    def answers(self, role: str) -> None:
        self.do("says", role=role, kinds=["pong"], cut=None)

    @rule(role=ROLES, seldom=SELDOM)
    def lost(self, role: str, seldom: int) -> None:
        if seldom == 0:
            self.do("lost", role=role)

    @precondition(lambda self: self.can("timer"))
    @rule(late_ms=st.sampled_from([0, 0, 0, 1, 40]), seldom=SELDOM)
    def timer(self, late_ms: int, seldom: int) -> None:
        world = self.stage.world
        if seldom == 0 or (world.armed is not None and world.armed < world.plan.deadline_ms):
            self.do("timer", late_ms=late_ms)

    @precondition(lambda self: self.can("late timer"))
    @rule()
    def late_timer(self) -> None:
        self.do("late timer", late_ms=0)

    @rule(ms=st.integers(0, 40))
    def wait(self, ms: int) -> None:
        self.do("wait", ms=ms)

    @precondition(lambda self: self.can("drain"))
    @rule(seldom=st.integers(0, 30))
    def drain(self, seldom: int) -> None:
        if seldom == 0:
            self.do("drain")

    def teardown(self) -> None:
        if not self.broken and hasattr(self, "stage"):
            self.stage.end()


def play(examples: int, seed: int) -> bytes | None:
    """Play so many scripts of hypothesis's making; return the shortest one that breaks a promise."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=LENGTH,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=settings.get_profile("default").suppress_health_check,
    )
    try:
        run_state_machine_as_test(seeded(seed)(Machine), settings=chosen)
    except BaseException:
        if Machine.last is None:
            raise
        return Machine.last.script()
    return None


def sweep(seconds: float, seed: int) -> tuple[int, bytes | None]:
    """Play scripts for so long; return how many there were, and the shortest that breaks a promise."""
    until, before = time.monotonic() + seconds, Machine.played
    failing = None
    while failing is None and time.monotonic() < until:
        failing = play(_BATCH, seed)
        seed += 1
    return Machine.played - before, failing


TARGET = Target("handshake", check, share=2.0, few=60, sweep=sweep)
