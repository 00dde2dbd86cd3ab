"""The states of a leg, and the one table of everything that can happen to it.

Both legs of a session are instances of the one class; which is which is data. An event that the table does
not allow raises `IllegalTransition`: it is a bug of ours, never a peer's doing.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from proxy.core.plan import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.core.plan import Role


class State(StrEnum):
    """Where a leg is. The four stages are states of their own."""

    IDLE = "idle"
    CONNECTING = "connecting"
    UPGRADING = "upgrading"
    PROPAGATION = "propagation"
    VALIDATION = "validation"
    STABILIZATION = "stabilization"
    ANNOUNCEMENT = "announcement"
    READY = "ready"
    OPEN = "open"
    DEPARTING = "departing"
    CLOSED = "closed"


class Trigger(StrEnum):
    """What moves a leg."""

    DIAL = "dial"  # a try at the upstream begins
    CONNECTED = "connected"  # its connection stands, the upgrade request is out
    ACCEPTED = "accepted"  # the 101: the upstream's arrived, or ours went out
    PASS = "pass"  # noqa: S105 - the running stage is over: proved, expired or skipped
    ANSWER = "answer"  # the peer closed of its own will: what it said is its answer
    REDIAL = "redial"  # this try failed, another follows
    OPEN = "open"  # the gate opens
    DEPART = "depart"  # the other side left: it is told when it has gone quiet
    CLOSE = "close"  # the connection is over


_STAGES: Final = (State.PROPAGATION, State.VALIDATION, State.STABILIZATION, State.ANNOUNCEMENT)
_STAGE_OF: Final = {state: Stage(state) for state in _STAGES}

TRANSITIONS: Final[Mapping[State, Mapping[Trigger, State]]] = MappingProxyType(
    {
        State.IDLE: {
            Trigger.DIAL: State.CONNECTING,
            Trigger.ACCEPTED: State.PROPAGATION,
            Trigger.CLOSE: State.CLOSED,
        },
        State.CONNECTING: {
            Trigger.CONNECTED: State.UPGRADING,
            Trigger.REDIAL: State.IDLE,
            Trigger.CLOSE: State.CLOSED,
        },
        State.UPGRADING: {
            Trigger.ACCEPTED: State.PROPAGATION,
            Trigger.REDIAL: State.IDLE,
            Trigger.CLOSE: State.CLOSED,
        },
        **{
            stage: {
                Trigger.PASS: after,
                Trigger.ANSWER: State.READY,
                Trigger.REDIAL: State.IDLE,
                Trigger.DEPART: State.DEPARTING,
                Trigger.CLOSE: State.CLOSED,
            }
            for stage, after in zip(_STAGES, (*_STAGES[1:], State.READY), strict=True)
        },
        State.READY: {
            Trigger.ANSWER: State.READY,
            Trigger.REDIAL: State.IDLE,
            Trigger.OPEN: State.OPEN,
            Trigger.DEPART: State.DEPARTING,
            Trigger.CLOSE: State.CLOSED,
        },
        State.OPEN: {Trigger.DEPART: State.DEPARTING, Trigger.CLOSE: State.CLOSED},
        State.DEPARTING: {Trigger.CLOSE: State.CLOSED},
        State.CLOSED: {},
    }
)


class IllegalTransition(RuntimeError):  # noqa: N818 - the field's word for it
    """A leg was moved in a way that the table does not have."""


class Leg:
    """One of a session's two connections: its role and its state, moved by the table alone."""

    __slots__ = ("role", "state")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.IDLE

    @property
    def stage(self) -> Stage | None:
        """The stage that is running, if one is."""
        return _STAGE_OF.get(self.state)

    @property
    def ready(self) -> bool:
        """Whether the stages are over and the leg waits for the gate."""
        return self.state is State.READY

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.state is State.CLOSED

    def move(self, trigger: Trigger) -> None:
        """Change the state as the table says. Raise `IllegalTransition` if it has no such row."""
        try:
            self.state = TRANSITIONS[self.state][trigger]
        except KeyError:
            raise IllegalTransition(f"{self.role} leg: {trigger} while {self.state}") from None


def mermaid() -> str:
    """Draw the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.IDLE}"]
    for state, row in TRANSITIONS.items():
        for after in dict.fromkeys(row.values()):
            names = " / ".join(trigger for trigger, to in row.items() if to is after)
            lines.append(f"    {state} --> {after}: {names}")
    return "\n".join([*lines, f"    {State.CLOSED} --> [*]"])
