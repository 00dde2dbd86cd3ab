"""What the core needs to know of a policy: which stages run, for how long, and when to redial.

Frozen and free of any validation library; `proxy.policy` builds these once, at load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Which of a session's two legs."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class Stage(StrEnum):
    """A step of a leg's readiness, in the order in which they run."""

    PROPAGATION = "propagation"
    VALIDATION = "validation"
    STABILIZATION = "stabilization"
    ANNOUNCEMENT = "announcement"


class Evidence(StrEnum):
    """What proves a stage. `FIXED` is a plain delay and proves nothing."""

    ACKED = "acked"
    PONG = "pong"
    FRAME = "frame"
    QUIET = "quiet"
    MESSAGE = "message"
    FIXED = "fixed"


class OnExpiry(StrEnum):
    """What a stage does when its budget ends without evidence."""

    PROCEED = "proceed"
    FAIL = "fail"


class Accept(StrEnum):
    """When the client hears its 101: after the upstream proved ready, or at once."""

    MIRRORED = "mirrored"
    EAGER = "eager"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of one leg. `budget_ms` 0 skips the stage."""

    evidence: Evidence
    budget_ms: float
    on_expiry: OnExpiry = OnExpiry.PROCEED


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Stabilization by `quiet`: a learned window from `min_ms` to `max_ms`; losses count for `memory_s`."""

    min_ms: float
    max_ms: float
    memory_s: float = 60.0


@dataclass(frozen=True, slots=True)
class JsonMatch:
    """A JSON text message announces when the value at `path` (keys, outermost first) equals `equals`."""

    path: tuple[str, ...]
    equals: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class LegPlan:
    """The stages of one leg.

    `stabilization` is a `WindowPlan` (evidence `quiet`) or a `StagePlan` with evidence `fixed`.
    `announcement` None: the leg has no such stage. `match` None: any first message announces.
    `early_bytes`: how much is held before the gate opens until reading of the socket is paused.
    """

    propagation: StagePlan
    validation: StagePlan
    stabilization: WindowPlan | StagePlan
    announcement: StagePlan | None = None
    match: JsonMatch | None = None
    early_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class RedialPlan:
    """When a failed try at the upstream is followed by another.

    `tries` counts attempts that reached the upstream; refused connections are bounded by the deadline alone.
    The delay before try n is `base_ms * 2**(n-1)`, at most `max_ms`, times `1 ± jitter * random`.
    """

    tries: int = 10
    base_ms: float = 25.0
    max_ms: float = 1000.0
    jitter: float = 0.5
    statuses: frozenset[int] = frozenset({500, 502, 503, 504})
    close_codes: frozenset[int] = frozenset({1006, 1011, 1012, 1013, 1014})


@dataclass(frozen=True, slots=True)
class HandshakePlan:
    """All that a handshake of one route follows.

    `eager_subprotocols`: those that we may agree to alone. `message_bytes`: how long a message may be, also
    once the gate is open; None: any length.
    """

    accept: Accept
    deadline_ms: float
    client: LegPlan
    upstream: LegPlan
    redial: RedialPlan = field(default_factory=RedialPlan)
    eager_subprotocols: tuple[str, ...] = ()
    lost_code: int = 1014
    message_bytes: int | None = None

    def leg(self, role: Role) -> LegPlan:
        """Return the plan of the leg with this role."""
        return self.client if role is Role.CLIENT else self.upstream
