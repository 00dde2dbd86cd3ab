"""What the admin listener needs to know of the server: read-only, and never a wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.admin.events import EventFeed


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to a health question; `reasons` says why not, one phrase each, safe to show."""

    ok: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegSnapshot:
    """One leg of a session now: its state, what it has said (messages, bytes), and early bytes held of it."""

    state: str
    messages: int = 0
    bytes: int = 0
    early_bytes: int = 0


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

    def policy_text(self) -> str:
        """The effective policy as YAML."""

    def metrics_text(self) -> str:
        """All metrics in the Prometheus text format."""
