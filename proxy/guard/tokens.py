"""Finding the token in a request, and nothing else in it: pure functions on raw header pairs.

The places are those of RFC 6750 section 2 (field, query parameter), a cookie (RFC 6265), and the offer of
subprotocols, the one field that a browser lets a page fill for a WebSocket.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_plus

from proxy.guard.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proxy.policy.settings import TokenSource

    Headers = Sequence[tuple[bytes, bytes]]

# RFC 6750 section 2.1: credentials = "Bearer" 1*SP b64token; the scheme's case does not matter (RFC 9110
# section 11.1).
_BEARER: Final = re.compile(r"bearer(?: +|$)", re.IGNORECASE)
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
# RFC 7515 section 7.1: three parts in base64url. The signature may be empty by its grammar, not by ours.
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A token as it is to be verified, and the place that it was in."""

    token: str
    place: str

    def __repr__(self) -> str:
        return f"Found(place={self.place!r})"  # a token must not get into an error text


def find_token(sources: Sequence[TokenSource], headers: Headers, query: str, max_bytes: int) -> Found:
    """Return the token of the first source that has one. Raise RefusedError.

    `query`: raw, without `?`. Two different tokens in one source are refused: the backend might read the one
    that was not checked here. A token of more than `max_bytes` is refused before anything of it is decoded.
    """
    for source in sources:
        candidates = set(_candidates(source, headers, query))
        if not candidates:
            continue
        if len(candidates) > 1:
            raise RefusedError(Reason.AMBIGUOUS, source=source.place)
        return Found(_plain(candidates.pop(), source, max_bytes), source.place)
    raise RefusedError(Reason.MISSING)


def _candidates(source: TokenSource, headers: Headers, query: str) -> Iterable[str]:
    match source.place:
        case "authorization":
            return _bearers(headers)
        case "subprotocol":
            return _subprotocols(headers, source.prefix)
        case "cookie":
            return _cookies(headers, source.name)
        case _:
            return _parameters(query, source.name)


def _values(headers: Headers, name: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for key, value in headers if key.lower() == name)


def _bearers(headers: Headers) -> Iterator[str]:
    for value in _values(headers, b"authorization"):
        if match := _BEARER.match(value):
            yield value[match.end() :]


def _subprotocols(headers: Headers, prefix: str) -> Iterator[str]:
    for value in _values(headers, b"sec-websocket-protocol"):
        for part in value.split(","):
            name = part.strip()
            if name.startswith(prefix) and len(name) > len(prefix):
                yield name[len(prefix) :]


def _cookies(headers: Headers, name: str) -> Iterator[str]:
    for value in _values(headers, b"cookie"):
        for part in value.split(";"):
            key, _, text = part.strip().partition("=")
            # RFC 6265 section 4.1.1: cookie-value = *cookie-octet / ( DQUOTE *cookie-octet DQUOTE )
            text = text[1:-1] if text[:1] == text[-1:] == '"' and len(text) > 1 else text
            if key == name and text:
                yield text


def _parameters(query: str, name: str) -> Iterator[str]:
    for piece in query.partition("#")[0].split("&"):
        key, _, text = piece.partition("=")
        if text and unquote_plus(key) == name:
            yield unquote(text)


def _plain(raw: str, source: TokenSource, max_bytes: int) -> str:
    if len(raw) > (max_bytes * 4 + 2) // 3 if source.encoded else len(raw) > max_bytes:
        raise RefusedError(Reason.TOO_LONG, source=source.place)
    token = _decoded(raw) if source.encoded else raw
    if not _COMPACT.fullmatch(token):
        raise RefusedError(Reason.MALFORMED, source=source.place)
    return token


def _decoded(raw: str) -> str:
    """Decode base64url without padding (RFC 7515 appendix C); "" for what is none."""
    if not _BASE64URL.fullmatch(raw):
        return ""
    try:
        return base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode("latin-1")
    except (binascii.Error, ValueError):
        return ""
