"""What the admin listener needs to know of the server: read-only, and never a wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.admin.events import EventFeed
    from proxy.telemetry.recent import Finished


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to a health question; `reasons` says why not, one phrase each, safe to show."""

    ok: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegSnapshot:
    """One leg of a session now: its state, what it has said (messages, bytes), and early bytes held of it.

    `unsent_bytes` of what was written to it still wait, because its peer does not take them.
    """

    state: str
    messages: int = 0
    bytes: int = 0
    early_bytes: int = 0
    unsent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """One session now. `path` must be redacted (`HandshakeTrace.subject.target` is)."""

    id: str
    route: str
    path: str
    client_address: str
    age_s: float
    client: LegSnapshot
    upstream: LegSnapshot
    redials: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class WindowSnapshot:
    """What a route has learned. In ms; None: nothing yet, or there is nothing to learn.

    `client_ms` and `upstream_ms` are the stabilization windows of the legs, `quiet_ms` the quiet time of a
    departure; `most_ms` what each of them can be at most.
    """

    route: str
    client_ms: float | None
    upstream_ms: float | None
    quiet_ms: float | None
    most_ms: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class NowSnapshot:
    """The process now: open sessions, handshakes under way, early bytes held, what was learned.

    `outcomes`: how many handshakes have ended with each, since the start.
    """

    sessions: int
    pending: int
    early_bytes: int
    outcomes: Mapping[str, int]
    windows: Sequence[WindowSnapshot]
    policy: str


@dataclass(frozen=True, slots=True)
class About:
    """What stays the same while the process lives. `trace_url`: a link with `{trace_id}` in it, or ""."""

    version: str
    upstream: str
    trace_url: str = ""


class AdminState(Protocol):
    """What the server implements for the admin listener."""

    @property
    def feed(self) -> EventFeed:
        """The events of /events; put `publish` into `Telemetry.listeners`, call `close` at shutdown."""

    def alive(self) -> Health:
        """Whether the process works: not ok asks the platform to restart it."""

    def ready(self) -> Health:
        """Whether new sessions are welcome: not ok before the start, while draining, or above the limits."""

    def started(self) -> Health:
        """Whether the start is over. Stays ok once it is."""

    def sessions(self) -> Iterable[SessionSnapshot]:
        """All sessions, pending ones too."""

    def newest(self, most: int) -> Sequence[SessionSnapshot]:
        """At most so many sessions: those pending, the oldest first, then the newest."""

    def handshakes(self) -> Sequence[Finished]:
        """The last handshakes that are over, the oldest first."""

    def unix_ms(self, at_ms: float) -> float:
        """Ms since 1970 at this moment of the monotonic clock."""

    def now(self) -> NowSnapshot:
        """How the process is doing."""

    def about(self) -> About:
        """What the process is."""

    def policy_text(self) -> str:
        """The effective policy as YAML."""

    def metrics_text(self) -> str:
        """All metrics in the Prometheus text format."""
