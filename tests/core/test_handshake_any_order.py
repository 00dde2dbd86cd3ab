"""Whatever happens in whatever order, a handshake never raises, always ends, and loses nothing in silence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.commands import (
    AcceptClient,
    ArmTimer,
    CloseClient,
    Command,
    DepartUpstream,
    Dial,
    DropUpstream,
    Finish,
    MirrorResponse,
    OpenGate,
    PauseReading,
    PollAcked,
    RefuseClient,
    SendPing,
)
from proxy.core.early import EarlyTotal
from proxy.core.events import (
    BytesAcked,
    BytesReceived,
    ClientAccepted,
    DrainStarted,
    Event,
    LegLost,
    TimerFired,
    UpgradeRequested,
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.frames import CONTINUATION, PING, PONG, TEXT, close_frame, frame
from proxy.core.handshake import Handshake, learned_windows
from proxy.core.plan import Accept, Evidence, OnExpiry, RedialPlan, StagePlan, WindowPlan
from tests.core.script import (
    AT_ONCE,
    CLIENT,
    DEADLINE_MS,
    KEY,
    NONCE,
    SKIP,
    UPSTREAM,
    handshake_plan,
    leg_plan,
)

# -- the peers ----------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """What one peer of the gate has put on its wire. `passes`: (bytes, how many of them were sent)."""

    mask: bytes | None
    up: bool = False  # its connection stands (and its 101 is through, if it is the upstream)
    pinged: bool = False
    closed: bool = False
    lost: bool = False
    unsent: bytes = b""
    unsent_passes: bool = True
    whole: bytes = b""  # the whole frames sent that must reach the other side
    torso: bytes = b""  # the frame begun that must

    def say(self, kind, cut):
        """The next bytes of this peer: the rest of a frame that it began, or a new frame, cut somewhere."""
        if not self.unsent:
            self.unsent, self.unsent_passes = self._frame(kind)
        size = max(1, min(cut, len(self.unsent)))
        data, self.unsent = self.unsent[:size], self.unsent[size:]
        if self.unsent_passes:
            self.torso += data
            if not self.unsent:
                self.whole, self.torso = self.whole + self.torso, b""
        return data

    def _frame(self, kind):
        if kind == "pong" and self.pinged:
            self.pinged = False
            return frame(PONG, NONCE, mask=self.mask), False
        if isinstance(kind, int):
            self.closed = True
            return close_frame(kind, "why", mask=self.mask), self.mask is None
        body = {
            "text": frame(TEXT, b"words", mask=self.mask),
            "start": frame(TEXT, b"a", mask=self.mask, fin=False),
            "rest": frame(CONTINUATION, b"b", mask=self.mask),
            "ping": frame(PING, b"theirs", mask=self.mask),
        }
        return body.get(kind, frame(PONG, b"unasked!", mask=self.mask)), True


@dataclass
class World:
    """All around a handshake: it offers the events that can happen, and checks what is commanded."""

    core: Handshake
    held: EarlyTotal
    now: float = 0.0
    armed: float | None = None
    dial: str = "none"  # none, dialling, upgrading, up, departing
    client: Peer = field(default_factory=lambda: Peer(KEY, up=True))
    upstream: Peer = field(default_factory=lambda: Peer(None))
    accepting: bool = False  # AcceptClient came, ClientAccepted did not yet
    accepted: bool = False
    opened: bool = False
    told: bool = False
    delivered: bytes | None = None
    client_closes: int = 0
    finishes: int = 0
    at_once: int = 0  # timers in a row that were armed for the very moment
    polls: set = field(default_factory=set)

    def events(self, choice) -> dict[str, Event]:
        """What can happen next, by name. What ends it at once is rare, so that scripts get far."""
        now, can = self.now, {}
        if choice == 30:
            can["drain"] = DrainStarted(now)
        if self.armed is not None and (self.armed < DEADLINE_MS or choice == 29):
            can["timer"] = TimerFired(max(self.armed, now))
        if self.dial == "dialling":
            can["connected"] = UpstreamConnected(now)
            can["refused"] = UpstreamUnreachable(now, "refused")
        if self.dial == "upgrading":
            can["accepted"] = UpstreamAccepted(now, "chat" if choice % 4 == 0 else None)
            can["rejected"] = UpstreamRejected(now, [403, 503][choice % 2], held=choice % 3 > 0)
        if self.dial in {"upgrading", "up", "departing"} and not self.upstream.lost:
            can["upstream lost"] = LegLost(now, UPSTREAM)
        if not self.client.lost and not self.opened and choice % 4 == 0:
            can["client lost"] = LegLost(now, CLIENT)
        if self.accepting:
            can["client accepted"] = ClientAccepted(now)
        for role in self.polls:
            can[f"{role} acked"] = BytesAcked(now, role)
        return can

    def can_say(self, role) -> bool:
        """Whether this peer can put bytes on its wire."""
        peer = self.client if role is CLIENT else self.upstream
        over = peer.closed and not peer.unsent
        return peer.up and not peer.lost and not over and not self.opened

    def feed(self, event: Event) -> None:
        """Let it happen, then carry out what is commanded, as the edge would."""
        over = self.core.finished
        self._happened(event)
        commands = self.core.feed(event)
        if over:
            self._check_after_the_end(event, commands)
        for command in commands:
            assert not isinstance(command, ArmTimer) or command is commands[-1]
            self._do(command, event)
        assert self.held.bytes == sum(self.core.early(role).size for role in (CLIENT, UPSTREAM))

    def _happened(self, event):
        match event:
            case TimerFired():
                self.now, self.armed = event.at_ms, None
            case UpstreamConnected():
                self.dial = "upgrading"
            case UpstreamUnreachable() | UpstreamRejected():
                self.dial, self.upstream = "none", Peer(None)
            case UpstreamAccepted():
                self.dial, self.upstream = "up", Peer(None, up=True)
            case LegLost():
                peer = self.client if event.role is CLIENT else self.upstream
                peer.lost = True
                if event.role is UPSTREAM and self.dial == "upgrading":
                    self.dial = "none"
            case ClientAccepted():
                self.accepting = False
            case BytesAcked():
                self.polls.discard(event.role)

    def _check_after_the_end(self, event: Event, commands: list[Command]) -> None:
        kinds = [type(command) for command in commands]
        if isinstance(event, UpstreamAccepted):
            assert kinds == [DepartUpstream], "it is let go politely"
        elif isinstance(event, ClientAccepted):
            assert kinds in ([], [CloseClient]), "a client that left meanwhile is answered"
        else:
            assert kinds == [], f"{event} after the end"

    def _do(self, command: Command, event: Event) -> None:
        match command:
            case ArmTimer():
                assert command.at_ms >= event.at_ms
                at_once = isinstance(event, TimerFired) and command.at_ms == event.at_ms
                self.at_once = self.at_once + 1 if at_once else 0
                assert self.at_once <= 2, "it would spin"  # one look at the sockets for each leg, no more
                self.armed = command.at_ms
            case Dial():
                assert self.dial == "none", "a dial is under way"
                self.dial = "dialling"
            case DropUpstream():
                self.dial, self.upstream = "none", Peer(None)
                self.polls.discard(UPSTREAM)
            case AcceptClient():
                assert not self.accepted
                assert not self.told
                assert not self.client.lost
                self.accepted = self.accepting = True
            case MirrorResponse() | RefuseClient():
                assert not self.accepted
                assert not self.told
                assert not self.client.lost
                self.told = True
            case CloseClient():
                assert self.accepted
                assert not self.client.lost
                assert not self.client_closes, "closed twice"
                self.client_closes += 1
                self.told = self.told or not self.client.closed
            case PauseReading():
                assert not self.finishes
            case PollAcked():
                self.polls.add(command.role)
            case SendPing():
                peer = self.client if command.role is CLIENT else self.upstream
                assert peer.up
                assert not peer.lost
                peer.pinged = True
            case OpenGate():
                self._open()
            case DepartUpstream():
                self._depart()
            case Finish():
                self.finishes += 1
                self.armed = None
                assert self.finishes == 1
                assert self.core.finished

    def _open(self) -> None:
        assert not self.opened
        assert self.accepted
        assert not self.accepting
        assert not self.client.lost
        assert self.client_closes == 0
        assert self.dial == "up"
        self.opened = True
        for role, peer in ((CLIENT, self.client), (UPSTREAM, self.upstream)):
            taken = self.core.early(role).take()
            walker = self.core.walker(role)
            assert (taken + walker.feed(peer.unsent)).endswith(peer.unsent if peer.unsent_passes else b"")
            if not peer.unsent:
                assert taken == peer.whole
            else:
                assert taken.startswith(peer.whole)
                assert (peer.whole + peer.torso).startswith(taken)
            assert self.core.early(role).take() == b""
        self.delivered = self.client.whole

    def _depart(self) -> None:
        assert self.dial == "up"
        assert not self.upstream.lost
        self.dial = "departing"
        taken = self.core.early(CLIENT).take_whole()
        assert self.delivered is None
        if self.client_closes and not self.client.closed:
            assert self.told
        self.delivered = taken
        assert self.core.early(CLIENT).take() == b""


# -- plans, scripts, and the property -----------------------------------------------------------------------

STRICT = {
    "propagation": StagePlan(Evidence.ACKED, 50.0, OnExpiry.FAIL),
    "validation": StagePlan(Evidence.PONG, 75.0, OnExpiry.FAIL),
}
LEGS = [
    leg_plan(),
    leg_plan(propagation=SKIP, validation=SKIP, stabilization=AT_ONCE),
    leg_plan(**STRICT, announcement=StagePlan(Evidence.MESSAGE, 2000.0, OnExpiry.FAIL)),
    leg_plan(announcement=StagePlan(Evidence.MESSAGE, 60_000.0), early_bytes=30),
    leg_plan(
        propagation=StagePlan(Evidence.FIXED, 50.0),
        validation=StagePlan(Evidence.FRAME, 50.0),
        stabilization=StagePlan(Evidence.FIXED, 25.0),
    ),
    leg_plan(stabilization=WindowPlan(0.0, 25.0)),
]
PLANS = st.builds(
    lambda accept, client, upstream, tries: replace(
        handshake_plan(), accept=accept, client=client, upstream=upstream, redial=RedialPlan(tries=tries)
    ),
    st.sampled_from(Accept),
    st.sampled_from(LEGS),
    st.sampled_from(LEGS),
    st.integers(1, 3),
)
# How likely each thing is, when it can happen.
LIKELY = {
    "connected": 8,
    "accepted": 12,
    "client accepted": 8,
    "timer": 6,
    "client says": 3,
    "upstream says": 3,
    "client acked": 3,
    "wait": 2,
    "refused": 1,
    "rejected": 1,
    "upstream lost": 1,
    "client lost": 1,
    "drain": 1,
}
KINDS = st.sampled_from(["pong"] * 6 + ["text", "text", "start", "rest", "ping", "unasked", 1000, 4401, 1011])
STEPS = st.lists(st.tuples(st.integers(0, 999), KINDS, st.integers(0, 30)), min_size=20, max_size=60)


def live(world: World, steps) -> None:
    """At each step let one of the things happen that can."""
    world.feed(UpgradeRequested(0.0, ("chat",)))
    for choice, kind, number in steps:
        can = {"wait": None, **world.events(number)}
        can |= {f"{role} says": role for role in (CLIENT, UPSTREAM) if world.can_say(role)}
        likely = [name for name, weight in LIKELY.items() if name in can for _ in range(weight)]
        name = likely[choice % len(likely)]
        if name == "wait":
            world.now = max(world.now, min(world.now + number, world.armed or world.now))
        elif isinstance(can[name], Event):
            world.feed(can[name])
        else:
            peer = world.client if can[name] is CLIENT else world.upstream
            cut = 1000 if number > 10 else number  # mostly whole frames
            world.feed(BytesReceived(world.now, can[name], peer.say(kind, cut)))


@settings(max_examples=300, deadline=None)
@given(PLANS, STEPS, st.booleans())
def test_any_order_of_events_ends_and_loses_nothing_in_silence(plan, steps, measurable):
    held = EarlyTotal()
    core = Handshake(
        plan,
        learned_windows(plan),
        nonce=lambda: NONCE,
        chance=lambda: 0.5,
        measurable=lambda _: measurable,
        early=held,
    )
    world = World(core, held)
    live(world, steps)
    timers = 0
    while world.armed is not None:
        world.feed(TimerFired(max(world.armed, world.now)))
        timers += 1
        assert timers < 500, "the timer spins"
    assert core.finished
    assert world.finishes == 1
    for late in ("accepted", "client accepted", "upstream lost", "client lost"):
        event = world.events(1).get(late)
        if event is not None:
            world.feed(event)
    judge(world)
    core.forget_early()
    assert held.bytes == 0


def judge(world: World) -> None:
    """What the client said was delivered once, or it was told of the failure, or it had left."""
    whole = world.client.whole
    left = world.client.lost or world.client.closed
    if world.opened:
        assert not world.told
        assert world.delivered == whole
        return
    assert world.told or left, "a client that is still there hears of it"
    if world.delivered:
        assert not world.told, "delivered behind the back of a client that was told of a failure"
        assert whole.startswith(world.delivered)
