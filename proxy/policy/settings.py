"""What the running gate asks a policy: frozen, without YAML or validation behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.policy.routes import rewritten

if TYPE_CHECKING:
    import re

    from proxy.core.plan import HandshakePlan

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


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How an open session ends. `upstream_lost_code` is also the handshake plan's `lost_code`."""

    upstream_lost_code: int


@dataclass(frozen=True, slots=True)
class DepartureSettings:
    """How long the upstream must be quiet before it hears that the client left, and at most."""

    quiet_ms: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one route. `retry_after_s` is for our own 503s; `http` is the same in all routes."""

    handshake: HandshakePlan
    retry_after_s: int
    upstream: UpstreamSettings
    http: HttpSettings
    session: SessionSettings
    departure: DepartureSettings


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
