"""What a handshake tells about itself when it is over: the raw material of spans, metrics and logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.core.plan import Evidence, Role, Stage


class Outcome(StrEnum):
    """How a handshake ended (`readygate.outcome`)."""

    READY = "ready"
    READY_UNPROVEN = "ready_unproven"
    REJECTED = "rejected"
    ABANDONED = "abandoned"
    TIMEOUT = "timeout"
    FAILED = "failed"


class StageOutcome(StrEnum):
    """How a stage ended (`readygate.stage.outcome`)."""

    PROVED = "proved"
    EXPIRED = "expired"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of one leg as it ran. Times in ms of the caller's monotonic clock.

    `attempt` is the upstream try that it belongs to (1 is the first); `evidence` is what proved it, or what
    it waited for in vain; `marks` are the moments of pings and pongs: (name, at_ms).
    """

    role: Role
    stage: Stage
    attempt: int
    outcome: StageOutcome
    evidence: Evidence
    budget_ms: float
    started_ms: float
    ended_ms: float
    marks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EarlyCount:
    """What a leg said before the gate opened."""

    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class HandshakeReport:
    """A finished handshake.

    `status` is the HTTP status that the client got (101 when accepted, None when it left before any);
    `close_code` the Close code that ended it after a 101, if one did; `redials` tries beyond the first and
    their causes in order (`refused`, `timeout`, `lost`, `status_503`, `close_1011`, ...). `cause`: why the
    last try failed, when the handshake failed with it. `limit`: which limit refused it before it began.
    `guard`: what of the request the guard refused (`origin`); `auth`: why its token was refused.
    """

    outcome: Outcome
    status: int | None
    redials: tuple[str, ...]
    stages: tuple[StageRecord, ...]
    early_client: EarlyCount = field(default_factory=EarlyCount)
    early_upstream: EarlyCount = field(default_factory=EarlyCount)
    close_code: int | None = None
    cause: str | None = None
    limit: str | None = None
    guard: str | None = None
    auth: str | None = None
