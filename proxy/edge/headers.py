"""Header fields as a proxy must treat them: pure functions on raw `(name, value)` pairs.

Order, case and repetition are kept. The WebSocket dial uses the same functions as the HTTP pass-through, and
adds its own `Connection: Upgrade` and `Upgrade: websocket` afterwards.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Pair = tuple[bytes, bytes]

# RFC 9110 section 7.6.1: "Intermediaries MUST NOT forward" Connection, what it names, and "SHOULD remove or
# replace fields that are known to require removal before forwarding". Trailer goes too, because trailers are
# not passed on.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
# "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of
# the content." A client that names these anyway would have us send a message without its length or its host.
_NEVER_BY_NAME = frozenset({b"host", b"content-length"})
_FORWARDED = re.compile(rb"(?:forwarded|x-real-ip|x-forwarded-.*)\Z", re.IGNORECASE | re.DOTALL)
# RFC 9110 section 5.5: field values have no control characters but HTAB. Ours go out as they came in, so we
# look ourselves.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def end_to_end(raw: Iterable[Pair]) -> list[Pair]:
    """Return the pairs without the hop-by-hop ones (RFC 9110 section 7.6.1)."""
    pairs = list(raw)
    named = _connection_options(pairs) - _NEVER_BY_NAME
    drop = _HOP_BY_HOP | named
    return [pair for pair in pairs if pair[0].lower() not in drop]


def of_response(status: int, raw: Iterable[Pair]) -> list[Pair]:
    """Return a response's pairs without the hop-by-hop ones; a 426 that asks for WebSocket goes on asking.

    RFC 9110 section 15.5.22: "The server MUST send an Upgrade header field in a 426 response". To WebSocket
    the hop before us can be upgraded as well.
    """
    pairs = list(raw)
    asks = [] if status != HTTPStatus.UPGRADE_REQUIRED else _upgrades_to_websocket(pairs)
    return [*end_to_end(pairs), *asks]


def forwarded(raw: Iterable[Pair], peer: str, scheme: str, host: bytes) -> list[Pair]:
    """Return the pairs with `X-Forwarded-For` extended by `peer`, and `-Proto` and `-Host` set where absent.

    `peer` is an address as text (`""` for a Unix socket: nothing is added), `scheme` is `http` or `https`,
    `host` is the Host field that the client sent (`b""` for none). The last of several X-Forwarded-For lines
    is extended.
    """
    pairs = list(raw)
    names = [name.lower() for name, _ in pairs]
    if peer:
        _extend(pairs, names, b"x-forwarded-for", peer.encode())
    if b"x-forwarded-proto" not in names:
        pairs.append((b"X-Forwarded-Proto", scheme.encode()))
    if host and b"x-forwarded-host" not in names:
        pairs.append((b"X-Forwarded-Host", host))
    return pairs


def without_forwarded(raw: Iterable[Pair]) -> list[Pair]:
    """Return the pairs without what a proxy says of the request: there was none before us.

    Names with `_` for `-`, which some backends take for these, are refused before (`proxy/guard/heads.py`).
    """
    return [pair for pair in raw if not _FORWARDED.match(pair[0])]


def first(raw: Iterable[Pair], name: bytes) -> bytes | None:
    """Return the first value of a field; `name` is lower case."""
    return next((value for key, value in raw if key.lower() == name), None)


def serialize(start_line: bytes, pairs: Iterable[Pair]) -> bytes:
    """Return a message head, byte for byte as given, with its empty line.

    Raise ValueError when something in it would end a line early: what was read leniently is not passed on
    ambiguous.
    """
    lines = [start_line, *(name + b": " + value for name, value in pairs)]
    if any(_FORBIDDEN.search(line) for line in lines):
        raise ValueError("a control character in the message head")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def origin_form(method: str, target: str) -> tuple[bytes, bytes | None]:
    """Return a request target in origin form, byte for byte, and the authority that it named, if any.

    `target` is as aiohttp gives it (`request.raw_path`: UTF-8, other bytes as surrogates). RFC 9112 section
    3.2.2: a server takes absolute-form too, and "MUST ignore the received Host header field (if any) and
    instead use the host information of the request-target". `*` (OPTIONS) stays, and is made of an
    absolute-form without path and query (section 3.2.4).
    """
    raw = target.encode("utf-8", "surrogateescape")
    match = re.match(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)", raw)
    if match is None:
        return raw, None
    rest, authority = raw[match.end() :], match[1].rpartition(b"@")[2]
    if method == "OPTIONS" and not rest:
        return b"*", authority
    return rest if rest.startswith(b"/") else b"/" + rest, authority


def with_host(raw: Iterable[Pair], authority: bytes) -> list[Pair]:
    """Return the pairs with `authority` as the Host, in the place of the one that is there, or first.

    RFC 9112 section 3.2.2: a proxy that gets an absolute-form target "MUST ignore the received Host header
    field (if any) and instead replace it with the host information of the request-target".
    """
    pairs = list(raw)
    if first(pairs, b"host") is None:
        return [(b"Host", authority), *pairs]
    return [(name, authority if name.lower() == b"host" else value) for name, value in pairs]


def _upgrades_to_websocket(pairs: list[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair[0].lower() == b"upgrade" and pair[1].lower() == b"websocket"][:1]


def _connection_options(pairs: list[Pair]) -> set[bytes]:
    values = b",".join(value for name, value in pairs if name.lower() == b"connection")
    return {option.strip(b" \t").lower() for option in values.split(b",")}


def _extend(pairs: list[Pair], names: list[bytes], name: bytes, element: bytes) -> None:
    for index in range(len(names) - 1, -1, -1):
        if names[index] == name:
            key, value = pairs[index]
            pairs[index] = (key, value + b", " + element if value else element)
            return
    pairs.append((b"X-Forwarded-For", element))
