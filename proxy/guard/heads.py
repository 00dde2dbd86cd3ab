"""What a message head may be that is passed on: only what every reader takes the same way.

aiohttp's parser refuses most of what is malformed, by itself. Here is what it lets through, although two
servers may disagree on where such a message ends, whose it is, or what it asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ODD: Final = re.compile(rb"[^0-9A-Za-z-]")
_LENGTH: Final = re.compile(rb"[0-9]+")
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
# RFC 9110 section 8.6: "a recipient MUST anticipate potentially large decimal numerals and prevent parsing
# errors due to integer conversion overflows". Who reads into 64 bits with a sign gets this far.
_MOST_LENGTH: Final = (1 << 63) - 1
_MOST_DIGITS: Final = len(str(_MOST_LENGTH))
_LEAST_STATUS: Final = 100
# Fields that the gate judges, removes or writes. CGI, WSGI and PHP turn what is no letter or digit in a name
# into an underscore, so `Content_Length` is the length for them, and `X_Forwarded_For` what we wrote.
_OURS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"x-real-ip"}
)
_OURS_BEGIN: Final = (b"x-forwarded-", b"sec-websocket-")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is not passed on. Carries its own answer, in which nothing of the request is quoted."""

    status: int
    detail: str


_VERSION: Final = Fault(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
_TARGET: Final = Fault(400, "The request target must be a path without a fragment.")
_ALIAS: Final = Fault(400, "A field name that some servers take for another one.")
_LENGTH_OF_MORE: Final = Fault(413, "The Content-Length is too large.")
# RFC 9112 section 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding
# header field MUST treat the message as if the framing is faulty".
_OLD_CODING: Final = Fault(400, "Transfer-Encoding in an HTTP/1.0 request.")


def request_fault(
    target: str, version: tuple[int, int], headers: Iterable[tuple[bytes, bytes]]
) -> Fault | None:
    """Return why a request may not be passed on, None if it may; `target` is its target as it came."""
    if version not in {(1, 0), (1, 1)}:
        return _VERSION
    # RFC 9112 section 3.2 knows no fragment in a request target. Some servers cut it off, others do not: the
    # route that we choose would not be the one that is served.
    if "#" in target or not _is_ours(target):
        return _TARGET
    for name, value in headers:
        if _ODD.search(name) is not None and is_alias(name):
            return _ALIAS
        lower = name.lower()
        if lower == b"content-length" and _is_too_large(value):
            return _LENGTH_OF_MORE
        if lower == b"transfer-encoding" and version == (1, 0):
            return _OLD_CODING
    return None


def is_alias(name: bytes) -> bool:
    """Return whether some servers take this field name for one that the gate judges or writes."""
    plain = _ODD.sub(b"-", name).lower()
    return plain != name.lower() and (plain in _OURS or plain.startswith(_OURS_BEGIN))


def response_is_clear(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether every client takes a response head the same way; the parser for them is lenient."""
    lengths, codings = 0, 0
    for name, value in headers:
        if _NAME.fullmatch(name) is None:
            return False
        lower = name.lower()
        if lower == b"content-length":
            lengths += 1
            if _LENGTH.fullmatch(value) is None or _is_too_large(value):
                return False
        elif lower == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked":
                return False
    return status >= _LEAST_STATUS and lengths + codings <= 1


def _is_too_large(length: bytes) -> bool:
    """Return whether a Content-Length is. Python reads no more than 4,300 digits, zeros included."""
    digits = length.lstrip(b"0")
    return len(digits) > _MOST_DIGITS or int(digits or b"0") > _MOST_LENGTH


def _is_ours(target: str) -> bool:
    """Return whether a target in absolute form has a scheme of ours; other forms have none."""
    scheme, colon, _ = target.partition("://")
    return not colon or "/" in scheme or "?" in scheme or scheme.lower() in _SCHEMES
