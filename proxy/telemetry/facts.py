"""What the edge tells telemetry: the request that opens a session, and how the session ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Literal, Protocol

from proxy.telemetry import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?")
EndedBy = Literal["client", "upstream", "gate"]
# A Close; the end of a connection without one; silence; a limit; the gate's own stop.
EndReason = Literal["closed", "eof", "reset", "keepalive", "too_big", "idle", "max_age", "expired", "drain"]
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """An upgrade request as it arrived. `target` is the request target; `peer` "" on a Unix socket.

    `client` is the client's address as far as it can be trusted; "": nobody knows it better than `peer`.
    `policy` is the policy's name, `route` the pattern of the route that it matched (never a raw path).
    `token_names` are the query parameters, and `token_prefixes` the beginnings of subprotocols, that carry a
    token by the policy.
    """

    method: str
    target: str
    headers: Sequence[tuple[bytes, bytes]]
    peer: str
    policy: str
    route: str
    client: str = ""
    peer_port: int = 0
    scheme: str = "http"
    http_version: str = "1.1"
    token_names: frozenset[str] = frozenset()
    token_prefixes: tuple[str, ...] = ()


class Said(Protocol):
    """Counts what one side says, as it says it: whole messages and bytes of payload, both by type."""

    text: int
    binary: int
    text_bytes: int
    binary_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one side said in a session: finished messages, and bytes of payload, both by type."""

    text_messages: int = 0
    binary_messages: int = 0
    text_bytes: int = 0
    binary_bytes: int = 0

    @property
    def messages(self) -> int:
        """Messages of both types."""
        return self.text_messages + self.binary_messages

    @property
    def bytes(self) -> int:
        """Bytes of both types."""
        return self.text_bytes + self.binary_bytes


@dataclass(frozen=True, slots=True)
class DepartureFacts:
    """How the upstream was let go: what it said and was discarded, and the quiet time waited for."""

    discarded_messages: int = 0
    discarded_bytes: int = 0
    quiet_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionReport:
    """A session whose two legs are closed: who ended it, and how (`reason`).

    `client_code` and `upstream_code` are the close codes that these sides sent or, where they sent none, were
    sent; None: the leg ended without any. `client` is what the client said, `upstream` what the upstream
    said.
    """

    ended_by: EndedBy
    client_code: int | None
    upstream_code: int | None
    client: Traffic = field(default_factory=Traffic)
    upstream: Traffic = field(default_factory=Traffic)
    departure: DepartureFacts | None = None
    reason: EndReason = "closed"

    @property
    def code(self) -> int:
        """The close code that ended it, 1006 when there was none (RFC 6455 section 7.1.5)."""
        code = self.upstream_code if self.ended_by == "upstream" else self.client_code
        return 1006 if code is None else code


@dataclass(frozen=True, slots=True)
class Subject:
    """What may be told of a request: redacted, valid text, bounded. Empty strings and port 0: not known."""

    method: str
    path: str
    query: str
    scheme: str
    http_version: str
    host: str
    port: int
    peer: str
    peer_port: int
    client: str
    user_agent: str
    subprotocols: str
    policy: str
    route: str

    @property
    def target(self) -> str:
        """Path and redacted query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def describe(request: RequestFacts) -> Subject:
    """Reduce a request to what spans, logs and the admin page may show."""
    host = agent = protocols = proto = b""
    for name, value in request.headers:
        match name.lower():
            case b"host":
                host = host or value
            case b"user-agent":
                agent = agent or value
            case b"x-forwarded-proto":
                proto = proto or value
            case b"sec-websocket-protocol":
                protocols = protocols + b", " + value if protocols else value
    path, query = _split_target(request.target)
    address, port = _split_authority(redact.clean(host))
    # Sessions last, and most of them have the same of these: one copy does for all.
    return Subject(
        method=request.method if request.method in _METHODS else "_OTHER",
        path=intern(redact.clean(redact.path(path))),
        query=redact.clean(redact.query(query, request.token_names)),
        scheme=_SCHEMES.get(proto.decode("latin-1").strip().lower(), request.scheme),
        http_version=request.http_version,
        host=intern(address),
        port=port,
        peer=intern(request.peer),
        peer_port=request.peer_port,
        client=intern(request.client or request.peer),
        user_agent=_user_agent(agent),
        subprotocols=redact.clean(redact.subprotocols(protocols.decode("latin-1"), request.token_prefixes)),
        policy=request.policy,
        route=request.route,
    )


@lru_cache(maxsize=256)  # a few browsers and libraries make up nearly all
def _user_agent(value: bytes) -> str:
    return redact.clean(redact.text(value.decode("latin-1")))


def _split_target(target: str) -> tuple[str, str]:
    """Split a request target (RFC 9112 section 3.2, origin or absolute form); a stray fragment is dropped."""
    path, _, query = target.partition("#")[0].partition("?")
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path, query


def _split_authority(authority: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return authority, 0
    return match[1].strip("[]"), int(match[2] or 0)
