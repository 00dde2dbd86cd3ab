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
    body_idle_s: float | None
    keepalive_s: float
    response_timeout_s: float
    connections: int
    max_line_bytes: int
    max_field_bytes: int
    max_headers: int
    trusted_hops: int
    forwarded: str


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One place where a client may put its token.

    `place`: `authorization`, `subprotocol` (`prefix` before it, base64url once more if `encoded`), or
    `cookie` and `query` (by its `name`).
    """

    place: str
    name: str = ""
    prefix: str = ""
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key that tokens are checked by is read from: a `file`, or an environment variable `env`.

    `secret`: a shared secret (`encoded`: in base64); otherwise a public key in PEM. `kid`: its id, if it has
    one.
    """

    secret: bool
    file: str | None = None
    env: str | None = None
    encoded: bool = False
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class JwksSettings:
    """A key set that is fetched from `url`.

    It is fetched anew when it is older than `cache_s`, or for a key id that it does not have, at most every
    `min_refresh_s`. While it cannot be fetched, what there is is good for `stale_s` more.
    """

    url: str
    ca_file: str | None
    cache_s: float
    min_refresh_s: float
    stale_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """How tokens are checked. Empty `audience`: tokens for somebody by name are refused; empty `issuer`: any.

    `expiry_code`: Close code for a session whose token expires, None: it goes on. `close_code`: Close code
    for those without a good token after a 101, None: they get an HTTP status.
    """

    sources: tuple[TokenSource, ...]
    algorithms: tuple[str, ...]
    keys: tuple[KeySource, ...]
    jwks: JwksSettings | None
    audience: tuple[str, ...]
    issuer: tuple[str, ...]
    leeway_s: float
    required: tuple[str, ...]
    max_bytes: int
    http: bool
    close_code: int | None
    expiry_code: int | None
    claims_to_headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Who may come in: which origins (None: any), whether there has to be one, for which hosts (None: any).

    Both are in the one spelling of `policy.origins`. `hosts` is the same in all routes. `jwt`: how tokens are
    checked, None: not at all.
    """

    origins: frozenset[str] | None
    origin_required: bool
    hosts: frozenset[str] | None
    jwt: JwtSettings | None = None

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
    """How much is served; None: no such limit. The first six count for the process, not for a route."""

    sessions: int | None
    sessions_per_client: int | None
    handshakes_pending: int | None
    early_bytes_total: int
    header_bytes: int
    connections: int | None
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
