"""What happened to a session before its gate opened: past tense, frozen, each with the time at which it did.

`at_ms` is the caller's monotonic clock in milliseconds; it never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.core.plan import Role


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class UpgradeRequested(Event):
    """A client asked for a WebSocket. `subprotocols` in the order of its offer."""

    subprotocols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamConnected(Event):
    """The connection to the upstream stands and the upgrade request is on its way."""


@dataclass(frozen=True, slots=True)
class UpstreamUnreachable(Event):
    """No connection to the upstream came about (`refused`, `timeout`, `dns`, `tls`, ...)."""

    cause: str


@dataclass(frozen=True, slots=True)
class UpstreamAccepted(Event):
    """The upstream answered 101. `extensions` is the header's value, verbatim; `tail` came with it."""

    subprotocol: str | None = None
    extensions: str | None = None
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class UpstreamRejected(Event):
    """The upstream answered with another status. `held`: we have all of it, so another try is possible."""

    status: int
    held: bool = True


@dataclass(frozen=True, slots=True)
class ClientAccepted(Event):
    """Our 101 was written to the client."""


@dataclass(frozen=True, slots=True)
class BytesReceived(Event):
    """A leg said something behind its 101, or behind its upgrade request."""

    role: Role
    data: bytes


@dataclass(frozen=True, slots=True)
class BytesAcked(Event):
    """All that we wrote to a leg has reached its kernel."""

    role: Role


@dataclass(frozen=True, slots=True)
class LegLost(Event):
    """A leg's connection ended: EOF or reset."""

    role: Role


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """The time of the last `ArmTimer` has come."""


@dataclass(frozen=True, slots=True)
class DrainStarted(Event):
    """The gate itself is about to stop."""
