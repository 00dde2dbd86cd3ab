"""All around a handshake: two peers and a clock. It offers what can happen, and checks what is commanded.

Whatever the core commands is carried out as the edge would, and held against what the peers have really done.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.handshake import Handshake, learned_windows
from proxy.core.plan import Accept, HandshakePlan, Role
from proxy.core.report import HandshakeReport, Outcome
from tests.fuzz.evidence import Learned, check_stages
from tests.fuzz.peer import Peer

CLIENT, UPSTREAM = Role.CLIENT, Role.UPSTREAM
OFFERED = ("chat", "superchat")


@dataclass
class World:
    """A handshake and what is around it."""

    plan: HandshakePlan
    measurable: bool
    now: float = 0.0
    armed: float | None = None
    overdue: bool = False  # a time that was armed has passed, and what was to be done then is still to come
    dial: str = "none"  # none, waiting, upgrading, up, departing, opened
    tries: int = 0
    reached: int = 0
    status: int | None = None  # of the last response that is not a 101
    client: Peer = field(default_factory=lambda: Peer(b"\x11\x22\x33\x44", up=True))
    upstream: Peer = field(default_factory=lambda: Peer(None))
    negotiated: tuple[str | None, str | None] | None = None  # by the upstream: subprotocol, extensions
    promised: tuple[str | None, str | None] | None = None  # to the client, with its 101
    accepting: bool = False  # AcceptClient came, ClientAccepted did not yet
    accepted: bool = False
    told: bool = False
    delivered: bytes | None = None
    goodbye: DepartUpstream | None = None  # one that is still to be judged
    closes: list[CloseClient] = field(default_factory=list)
    report: HandshakeReport | None = None
    at_once: int = 0  # timers in a row that were armed for the very moment
    polls: set[Role] = field(default_factory=set)
    nonces: int = 0
    starting: Role = UPSTREAM  # which leg had its 101 last
    learned: list[Learned] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held = EarlyTotal()
        self.windows = learned_windows(self.plan)
        self.core = Handshake(
            self.plan,
            self.windows,
            nonce=self._nonce,
            chance=lambda: 0.5,
            measurable=lambda _: self.measurable,
            early=self.held,
        )
        self.client.limit = self.upstream.limit = self.plan.message_bytes

    def _nonce(self) -> bytes:
        """Give the leg that has just had its 101 the nonce of its ping."""
        self.nonces += 1
        nonce = self.nonces.to_bytes(8, "big")
        peer = self.peer(self.starting)
        peer.expects(nonce, peer.at_101)
        return nonce

    def peer(self, role: Role) -> Peer:
        return self.client if role is CLIENT else self.upstream

    @property
    def finished(self) -> bool:
        return self.report is not None

    @property
    def opened(self) -> bool:
        return self.dial == "opened"

    # -- what can happen ------------------------------------------------------------------------------------

    def can_say(self, role: Role) -> bool:
        """Whether this peer can put bytes on its wire that reach the core."""
        peer = self.peer(role)
        return peer.can_say and not self.opened and (role is CLIENT or self.dial == "up")

    def can_be_lost(self, role: Role) -> bool:
        there = role is CLIENT or self.dial in {"upgrading", "up"}
        return there and not self.peer(role).lost and not self.opened

    # -- an event and its commands --------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let it happen, then carry out what is commanded, as the edge would."""
        over = self.finished
        self._happened(event)
        commands = self.core.feed(event)
        if over:
            self._check_after_the_end(event, commands)
        for command in commands:
            assert not self.finished or over, f"{command} after Finish"
            assert not isinstance(command, ArmTimer) or command is commands[-1], "a timer is armed last"
            self._do(command, event)
        if self.goodbye is not None:
            self._check_departure(self.goodbye)
            self.goodbye = None
        self._check(event, over=over)

    def _happened(self, event: Event) -> None:
        self.now = event.at_ms
        match event:
            case TimerFired():
                self.overdue = False
                if self.armed is not None and self.armed <= event.at_ms:
                    self.armed = None
            case UpstreamConnected():
                self.dial = "upgrading"
            case UpstreamUnreachable():
                self.dial = "none"
            case UpstreamRejected():
                self.dial, self.status = "none", event.status
                self.reached += 1
            case UpstreamAccepted():
                self.dial, self.starting = "up", UPSTREAM
                self.reached += 1
                self.negotiated = (event.subprotocol, event.extensions)
            case LegLost():
                self.peer(event.role).lost = True
                self.reached += event.role is UPSTREAM and self.dial == "upgrading"
                if event.role is UPSTREAM and self.dial == "upgrading":
                    self.dial = "none"
            case ClientAccepted():
                self.accepting, self.client.heard_101 = False, True
                self.starting, self.client.at_101 = CLIENT, len(self.client.sent)
            case BytesAcked():
                self.polls.discard(event.role)
                self.peer(event.role).acked = True

    def _check(self, event: Event, *, over: bool) -> None:
        """What holds whenever an event has been dealt with."""
        core = self.core
        assert core.finished == self.finished
        assert self.held.bytes == sum(core.early(role).size for role in Role)
        for role in Role:
            stabilization = self.plan.leg(role).stabilization
            most = getattr(stabilization, "max_ms", 0.0)
            assert 0 <= self.windows[role].width_ms(self.now) <= most
        if self.finished:
            assert self.armed is None
            assert self.dial != "up" or self.upstream.lost, (
                "an accepted upstream is let go one way or another"
            )
            assert self.dial != "waiting", "nobody dials for a session that is over"
            if over and isinstance(event, BytesReceived) and self.closes and self.told:
                assert core.early(event.role).size == 0, "nothing is held that nobody will hear"
            return
        assert self.armed is not None, "without a timer it may never end"
        assert self.armed <= self.plan.deadline_ms
        assert not isinstance(event, DrainStarted), "a gate that stops gives up"
        assert not isinstance(event, TimerFired) or self.now < self.plan.deadline_ms, "the deadline ends it"
        assert self.dial in {"waiting", "upgrading", "up"}, "it tries, or it is over"
        if self.client.left and not core.early(CLIENT).size:
            assert self.dial == "upgrading", "it goes on for nobody"
        for role in Role:
            full = core.early(role).size >= self.plan.leg(role).early_bytes
            assert self.peer(role).paused or not full, "what is held is bounded"

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
                self._arm(command.at_ms, event)
            case Dial():
                self._dial(command)
            case DropUpstream():
                assert self.dial in {"waiting", "up"}, "a request that is out is let finish"
                self.learned.append(Learned(UPSTREAM, self.tries, self.upstream))
                self._new_upstream("none")
            case AcceptClient():
                self._accept(command)
            case MirrorResponse() | RefuseClient():
                assert not self.accepted
                assert not self.told, "answered twice"
                assert not self.client.lost
                assert isinstance(command, RefuseClient) == (
                    self.status is None or isinstance(event, DrainStarted)
                )
                self.told = True
            case CloseClient():
                self._close(command)
            case PauseReading():
                assert len(self.peer(command.role).seen.out) >= self.plan.leg(command.role).early_bytes
                self.peer(command.role).paused = True
            case PollAcked():
                assert self.peer(command.role).up
                self.polls.add(command.role)
            case SendPing():
                peer = self.peer(command.role)
                assert peer.up
                assert not peer.lost
                assert peer.pinged is None, "one ping for a leg and a try"
                assert command.nonce == peer.nonce
                assert command.role is UPSTREAM or self.client.heard_101, "nothing before its 101"
                peer.pinged = command.nonce
            case OpenGate():
                self._open()
            case DepartUpstream():
                self._depart(command)
            case Finish():
                self.report, self.armed = command.report, None
                self._check_report(command.report)

    def _arm(self, at_ms: float, event: Event) -> None:
        assert at_ms >= event.at_ms or self.overdue
        at_once = isinstance(event, TimerFired) and at_ms <= event.at_ms
        self.at_once = self.at_once + 1 if at_once else 0
        assert self.at_once <= 2, "it would spin"  # one look at the sockets for each leg, no more
        self.armed = at_ms

    def _dial(self, command: Dial) -> None:
        assert self.dial == "none", "a dial is under way"
        self.tries += 1
        assert command.attempt == self.tries
        assert self.reached < self.plan.redial.tries or self.tries == 1, "it was tried often enough"
        redial = self.plan.redial
        delay = min(redial.base_ms * 2.0 ** (self.tries - 2), redial.max_ms) if self.tries > 1 else 0.0
        assert command.after_ms == delay, "chance() of one half means no jitter"
        self._new_upstream("waiting")

    def _new_upstream(self, dial: str) -> None:
        self.dial, self.upstream = dial, Peer(None, limit=self.plan.message_bytes)
        self.polls.discard(UPSTREAM)

    def _accept(self, command: AcceptClient) -> None:
        assert not self.accepted
        assert not self.told
        assert not self.client.lost
        if self.plan.accept is Accept.EAGER:
            first = next((name for name in OFFERED if name in self.plan.eager_subprotocols), None)
            assert command.subprotocol == first
            self.promised = (first, None)
        else:
            assert self.dial == "up", "the 101 that it gets is the upstream's"
            assert self.negotiated is not None
            assert command.subprotocol == self.negotiated[0]
            self.promised = self.negotiated
        self.accepted = self.accepting = True

    def _close(self, command: CloseClient) -> None:
        assert self.accepted
        assert not self.client.lost
        assert not self.closes, "closed twice"
        self.closes.append(command)
        if self.client.closed is None:
            self.told = True
        elif not self.told:
            assert (command.code, command.reason) == self.client.closed, "its own Close is what it hears"

    def _open(self) -> None:
        assert self.accepted
        assert not self.accepting
        assert not self.client.left
        assert not self.closes
        assert self.dial == "up"
        assert self.delivered is None
        assert self.negotiated == self.promised
        self.dial = "opened"
        for role in Role:
            self.peer(role).check_taken(self.core.early(role).take(), self.core.walker(role))
            assert self.core.early(role).take() == b""
        self.delivered = self.client.whole

    def _depart(self, command: DepartUpstream) -> None:
        assert self.dial == "up"
        assert not self.upstream.lost
        assert self.delivered is None
        self.dial = "departing"
        self.delivered, self.goodbye = self.core.early(CLIENT).take_whole(), command
        assert self.core.early(CLIENT).take() == b""

    def _check_departure(self, goodbye: DepartUpstream) -> None:
        """Judge what an upstream is left with, once it is clear what the client heard."""
        if self.told:
            assert self.delivered == b"", (
                "nothing is delivered behind the back of one that was told of a failure"
            )
            assert goodbye.code == 1001
        else:
            # Words of one subprotocol mean nothing to an upstream that speaks another.
            due = b"" if self.accepted and self.negotiated != self.promised else self.client.whole
            assert self.delivered == due, "what it said before it left is delivered"
            assert (goodbye.code, goodbye.reason) == (self.client.closed or (None, ""))

    # -- the end --------------------------------------------------------------------------------------------

    def _check_report(self, report: HandshakeReport) -> None:
        opened = self.opened
        assert len(report.redials) == self.tries - 1
        assert report.outcome in (
            {Outcome.READY, Outcome.READY_UNPROVEN, Outcome.REJECTED}
            if opened
            else set(Outcome) - {Outcome.READY, Outcome.READY_UNPROVEN}
        )
        assert (report.status == 101) == self.accepted
        if not self.accepted:
            assert (report.status is None) == (not self.told)
        assert report.early_client.bytes == len(self.client.seen.out)
        assert report.close_code == (self.closes[0].code if self.closes and self.told else None)
        if report.outcome is Outcome.TIMEOUT:
            assert self.now >= self.plan.deadline_ms
        learned = [
            *self.learned,
            Learned(UPSTREAM, self.tries, self.upstream),
            Learned(CLIENT, 0, self.client),
        ]
        check_stages(self.plan, report, learned, self.now, opened=opened)

    def judge(self) -> None:
        """When all is over: what the client said was delivered once, or it heard of it, or it had left."""
        assert self.finished
        if self.opened:
            assert not self.told
            assert self.delivered == self.client.whole
            return
        assert self.told or self.client.left, "a client that is still there hears of it"
        assert not (self.told and self.delivered)
        self.core.forget_early()
        assert self.held.bytes == 0
