"""What the running gate asks a policy: frozen, without YAML or validation behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.policy.routes import rewritten

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from proxy.core.departure import DeparturePlan
    from proxy.core.keepalive import KeepalivePlan
    from proxy.core.plan import HandshakePlan, Role

ANY_PATH = "*"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How an `https` upstream is trusted. None: the system's authorities, the name that was dialled."""

    verify: bool
    ca_file: str | None
    server_name: str | None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How the upstream is dialled."""

    connect_timeout_s: float
    tls: TlsSettings


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of HTTP: our listener's, and of the pass-through to the upstream."""

    header_deadline_s: float
    keepalive_s: float
    response_timeout_s: float
    connections: int
    max_line_bytes: int
    max_field_bytes: int
    max_headers: int
    trusted_hops: int
    forwarded: str


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Who may come in: which origins (None: any), whether there has to be one, for which hosts (None: any).

    Both are in the one spelling of `policy.origins`. `hosts` is the same in all routes.
    """

    origins: frozenset[str] | None
    origin_required: bool
    hosts: frozenset[str] | None

    @property
    def judges_origins(self) -> bool:
        """Whether a handshake may be refused for its origin."""
        return self.origins is not None or self.origin_required


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How an open session ends. `upstream_lost_code` is also the handshake plan's `lost_code`.

    A session older than `max_s` (None: any age) is ended; up to the share `jitter` of that earlier.
    """

    upstream_lost_code: int
    max_s: float | None
    jitter: float


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How much is served; None: no such limit. The first five count for the process, not for a route."""

    sessions: int | None
    sessions_per_client: int | None
    handshakes_pending: int | None
    early_bytes_total: int
    header_bytes: int
    message_bytes: int | None
    messages_per_s: float | None
    idle_s: float | None


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """How the gate stops: over what time sessions are closed, and when what is left is cut."""

    spread_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one route. `retry_after_s` is for our own refusals.

    `http`, `drain`, `guard.hosts` and the limits of the process are the same in all routes.
    """

    handshake: HandshakePlan
    retry_after_s: int
    upstream: UpstreamSettings
    http: HttpSettings
    guard: GuardSettings
    session: SessionSettings
    departure: DeparturePlan
    keepalive: Mapping[Role, KeepalivePlan]
    limits: LimitSettings
    drain: DrainSettings


@dataclass(frozen=True, slots=True)
class Route:
    """A path pattern with its settings. The default route has the pattern `*` and no regex: it takes all."""

    pattern: str
    settings: Settings
    target: str | None = None
    regex: re.Pattern[str] | None = None

    def matches(self, path: str) -> bool:
        """Whether `path` (raw, without query) is this route's."""
        return self.regex is None or self.regex.fullmatch(path) is not None

    def rewrite(self, path: str) -> str:
        """Return the path that the upstream is asked for in place of `path`, which must match."""
        if self.target is None or self.regex is None:
            return path
        return rewritten(self.regex, self.target, path)


@dataclass(frozen=True, slots=True)
class Policy:
    """A validated policy. Two are equal when they decide the same; names and texts do not count."""

    name: str = field(compare=False)
    default: Route
    routes: tuple[Route, ...]
    text: str = field(compare=False, repr=False)

    def route(self, path: str) -> Route:
        """Return the first route that matches `path` (percent-encoded, without query), else the default."""
        return next((route for route in self.routes if route.matches(path)), self.default)

    def dump(self) -> str:
        """Return the effective policy as YAML; it loads to an equal policy. Routes show what they change."""
        return self.text
