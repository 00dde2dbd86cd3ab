"""Scripts of events and commands: `handshake >> Event(...) << Command(...)`; a mismatch prints what came."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from proxy.core.commands import AcceptClient, ArmTimer, Command, Dial, Finish, PollAcked, SendPing
from proxy.core.events import (
    BytesAcked,
    BytesReceived,
    ClientAccepted,
    Event,
    TimerFired,
    UpgradeRequested,
    UpstreamAccepted,
    UpstreamConnected,
)
from proxy.core.frames import PONG, TEXT, close_frame, frame
from proxy.core.handshake import Handshake, learned_windows
from proxy.core.plan import (
    Accept,
    Evidence,
    HandshakePlan,
    LegPlan,
    RedialPlan,
    Role,
    StagePlan,
    WindowPlan,
)
from proxy.core.report import HandshakeReport

CLIENT, UPSTREAM = Role.CLIENT, Role.UPSTREAM
NONCE = b"8 bytes!"
KEY = b"\x11\x22\x33\x44"
DEADLINE_MS = 10_000.0
WIDE_MS = 25.0  # the learned window of an upstream of which nothing is known
LEAST_MS = 1.0  # that of a client, which is trusted

# What a peer says, as it stands on the wire: a client masks, an upstream does not.
HELLO = frame(TEXT, b"hello", mask=KEY)
WELCOME = frame(TEXT, b"welcome")
PONGS = {CLIENT: frame(PONG, NONCE, mask=KEY), UPSTREAM: frame(PONG, NONCE)}

SKIP = StagePlan(Evidence.FIXED, 0.0)
AT_ONCE = WindowPlan(0.0, 0.0)  # no stabilization


def leg_plan(**changes) -> LegPlan:
    """The stages of a leg as in `production`, but for `changes`."""
    plan = LegPlan(
        propagation=StagePlan(Evidence.ACKED, 50.0),
        validation=StagePlan(Evidence.PONG, 75.0),
        stabilization=WindowPlan(1.0, WIDE_MS),
    )
    return replace(plan, **changes)


def handshake_plan(**changes) -> HandshakePlan:
    """A plan as in `production`, but for `changes`; jitter is taken out by `chance` (one half)."""
    plan = HandshakePlan(
        accept=Accept.MIRRORED,
        deadline_ms=DEADLINE_MS,
        client=leg_plan(),
        upstream=leg_plan(),
        redial=RedialPlan(tries=3),
    )
    return replace(plan, **changes)


def bare_plan(**changes) -> HandshakePlan:
    """A plan whose legs are READY as soon as they have their 101."""
    bare = leg_plan(propagation=SKIP, validation=SKIP, stabilization=AT_ONCE)
    return handshake_plan(**{"client": bare, "upstream": bare, **changes})


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def ms(self, at_ms: float) -> float:
        """Move on to `at_ms` and return it."""
        assert at_ms >= self.now, "a monotonic clock never goes back"
        self.now = at_ms
        return at_ms


class Ends:
    """Expects `Finish` with a report that has these fields; the others are not looked at."""

    def __init__(self, **fields) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finish) and all(
            getattr(other.report, name) == value for name, value in self.fields.items()
        )

    __hash__ = None

    def __repr__(self) -> str:
        return f"Ends({', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"


class Script:
    """A handshake under test. `>>` feeds an event, each `<<` names the next command that must have come.

    `ArmTimer` stands apart, since nearly every event arms one: `armed_ms` is the time armed last, and
    `<< ArmTimer(x)` may be said or left out. Commands nobody named fail at the next `>>`, or at the end.
    """

    def __init__(self, plan: HandshakePlan, *, windows=None, measurable=True) -> None:
        self.core = Handshake(
            plan,
            windows or learned_windows(plan),
            nonce=lambda: NONCE,
            chance=lambda: 0.5,
            measurable=lambda _: measurable,
        )
        self.armed_ms: float | None = None
        self.report: HandshakeReport | None = None
        self._lines: list[str] = []
        self._left: deque[Command] = deque()

    def __rshift__(self, event: Event) -> Script:
        self.done()
        self._lines.append(f">> {event}")
        commands = self.core.feed(event)
        for command in commands:
            if isinstance(command, ArmTimer):
                assert command is commands[-1], "a timer is armed last"
                assert command.at_ms >= event.at_ms, "a timer is armed in the past"
                self.armed_ms = command.at_ms
            else:
                self._left.append(command)
            if isinstance(command, Finish):
                self.report = command.report
        return self

    def __lshift__(self, expected: Command | Ends) -> Script:
        if isinstance(expected, ArmTimer):
            assert self.armed_ms == expected.at_ms, self._story(expected, ArmTimer(self.armed_ms))
            return self
        came = self._left.popleft() if self._left else None
        assert expected == came, self._story(expected, came)
        self._lines.append(f"   << {expected}")
        return self

    def done(self) -> None:
        """Fail if commands came that the script does not name."""
        assert not self._left, self._story(None, self._left[0])

    def states(self) -> tuple[str, str]:
        """The states of the client and the upstream leg."""
        return str(self.core.state(CLIENT)), str(self.core.state(UPSTREAM))

    def stages(self, role: Role) -> list[tuple[str, str, str]]:
        """The stages of a leg as reported: (stage, evidence, outcome)."""
        assert self.report is not None
        return [(r.stage, r.evidence, r.outcome) for r in self.report.stages if r.role is role]

    def _story(self, expected: object, came: object) -> str:
        rest = [f"   then {command}" for command in self._left if command is not came]
        return "\n".join(["", *self._lines, f" - expected {expected}", f" + came     {came}", *rest])

    # -- the beginnings that many scripts share -------------------------------------------------------------

    def requested(self, clock: Clock) -> Script:
        """A mirrored session whose upstream is being dialled."""
        return self >> UpgradeRequested(clock.now) << Dial(1)

    def upgrading(self, clock: Clock) -> Script:
        """The upgrade request is on its way to the upstream."""
        return self.requested(clock) >> UpstreamConnected(clock.now)

    def validating(self, clock: Clock) -> Script:
        """The upstream answered 101 and was pinged (plan as in `production`)."""
        self.upgrading(clock) >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
        return self

    def proved(self, clock: Clock, role: Role) -> Script:
        """This leg answers its ping and stays up for its learned window (plan as in `production`)."""
        self >> BytesReceived(clock.now, role, PONGS[role])
        return self >> TimerFired(clock.ms(clock.now + (LEAST_MS if role is CLIENT else WIDE_MS)))

    def accepting(self, clock: Clock) -> Script:
        """The upstream is READY, the client's 101 is being written (plan as in `production`)."""
        return self.validating(clock).proved(clock, UPSTREAM) << AcceptClient()

    def client_validating(self, clock: Clock) -> Script:
        """The client has its 101 and was pinged (plan as in `production`)."""
        self.accepting(clock) >> ClientAccepted(clock.now) << PollAcked(CLIENT)
        return self >> BytesAcked(clock.now, CLIENT) << SendPing(CLIENT, NONCE)


def said(clock: Clock, role: Role, data: bytes) -> BytesReceived:
    """A leg says `data` now."""
    return BytesReceived(clock.now, role, data)


def closed(clock: Clock, role: Role, code: int, reason: str = "") -> BytesReceived:
    """A leg closes now, with `code`."""
    return said(clock, role, close_frame(code, reason, mask=KEY if role is CLIENT else None))
