"""What the core wants done: imperative, frozen. The edge carries them out in the order given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.core.plan import Role
    from proxy.core.report import HandshakeReport


@dataclass(frozen=True, slots=True)
class Command:
    """Something to do."""


@dataclass(frozen=True, slots=True)
class Dial(Command):
    """Try the upstream (again) after a while. Answer with `UpstreamConnected` or `UpstreamUnreachable`.

    Eager: offer the upstream only the subprotocol that the client was given, and no extensions.
    """

    attempt: int
    after_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class DropUpstream(Command):
    """End this try, or stop waiting for the next: close its connection now and report no more of it."""


@dataclass(frozen=True, slots=True)
class AcceptClient(Command):
    """Write the 101. Answer with `ClientAccepted`.

    Mirrored: the upstream's, verbatim. Eager: our own, with `subprotocol`.
    """

    subprotocol: str | None = None


@dataclass(frozen=True, slots=True)
class MirrorResponse(Command):
    """Answer the client with the upstream's last response, verbatim."""


@dataclass(frozen=True, slots=True)
class RefuseClient(Command):
    """Answer the client with our own 503, a Retry-After and a reason that is safe to show."""

    reason: str


@dataclass(frozen=True, slots=True)
class PollAcked(Command):
    """Look whether all that we wrote to this leg has arrived; if so, answer with `BytesAcked`."""

    role: Role


@dataclass(frozen=True, slots=True)
class SendPing(Command):
    """Write a ping with this nonce to this leg."""

    role: Role
    nonce: bytes


@dataclass(frozen=True, slots=True)
class PauseReading(Command):
    """Stop reading this leg: as much as may be held is held."""

    role: Role


@dataclass(frozen=True, slots=True)
class ArmTimer(Command):
    """Answer with `TimerFired` at this time. Replaces the time armed before."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class CloseClient(Command):
    """Write a Close frame to the client and end its connection when it has answered."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenGate(Command):
    """Flush the early bytes both ways, in order, and join the legs."""


@dataclass(frozen=True, slots=True)
class DepartUpstream(Command):
    """Write the client's early bytes upstream, if there are any, and let it depart when it has gone quiet.

    `code`, `reason`: the client's Close; no code when it vanished without one, 1001 when we give up.
    """

    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finish(Command):
    """The handshake is over; nothing more is armed. What it has to tell is in the report."""

    report: HandshakeReport
