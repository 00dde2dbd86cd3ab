"""Where to connect, and the upgrade request that says so (RFC 6455 sections 3 and 4.1)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from proxy import __version__

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_OURS: Final = frozenset(
    {"connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"}
)
_AS_WRITTEN: Final = "!#$%&'()*+,/:;=?@[]~"  # everything that a user may have meant stays as it was typed


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint: `host` and `port` to dial, `authority` and `resource` to ask for."""

    host: str
    port: int
    tls: bool
    authority: str
    resource: str
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    verify: bool = True

    @property
    def url(self) -> str:
        """The endpoint to show to people: without its query, which may carry a token."""
        path, query, _ = self.resource.partition("?")
        return f"ws{'s' if self.tls else ''}://{self.authority}{path}{query and '?...'}"

    def request(self, key: str) -> bytes:
        """Build the upgrade request with this `Sec-WebSocket-Key`; the user's headers replace ours."""
        lines = {"host": ("Host", self.authority), "user-agent": ("User-Agent", f"readygate/{__version__}")}
        given = {name.lower() for name, _ in self.headers}
        fields = [field for name, field in lines.items() if name not in given]
        fields += self.headers
        fields += [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        if self.subprotocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(self.subprotocols)))
        head = [f"GET {self.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


def parse_target(
    url: str,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    subprotocols: tuple[str, ...] = (),
    verify: bool = True,
) -> Target:
    """Read a `ws://` or `wss://` URL; raises ValueError with a sentence for the user.

    Path and query go out as they were written; only what may not stand in a request line is percent-encoded.
    A user and password in the URL become Basic authorization, as browsers and curl do.
    """
    parts = urlsplit(url.strip())
    tls = {"ws": False, "wss": True}.get(parts.scheme)
    if tls is None or not parts.hostname:
        raise ValueError(f"{url!r} is not a WebSocket URL: expected ws://HOST[:PORT]/PATH or wss://...")
    # RFC 6455 3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used"
    if parts.fragment:
        raise ValueError(f"{url!r} has a fragment, which a WebSocket URL must not have")
    host = parts.hostname
    shown = f"[{host}]" if ":" in host else host.encode("idna").decode()
    port = parts.port or (443 if tls else 80)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = (("Authorization", f"Basic {base64.b64encode(pair).decode()}"), *headers)
    resource = quote(parts.path or "/", safe=_AS_WRITTEN) + (
        "?" + quote(parts.query, safe=_AS_WRITTEN) if parts.query else ""
    )
    authority = shown if parts.port is None else f"{shown}:{parts.port}"
    return Target(host, port, tls, authority, resource, headers, subprotocols, verify)


def parse_header(text: str) -> tuple[str, str]:
    """Read `Name: value`; raises ValueError for what could not be sent or belongs to the handshake."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not (colon and name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
        raise ValueError(f"{text!r} is not a header: expected 'Name: value'")
    if name.lower() in _OURS:
        raise ValueError(f"{name} belongs to the handshake itself" + _hint(name))
    if any(ord(char) < 32 or ord(char) > 255 for char in value):  # noqa: PLR2004 - control and non-latin-1
        raise ValueError(f"the value of {name} has a character that a header cannot carry")
    return name, value


def _hint(name: str) -> str:
    return "; use --subprotocol" if name.lower() == "sec-websocket-protocol" else ""


def accept_value(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` that answers `key` (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
