"""What those are told who are not let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Denial:
    """Why somebody is not let in. Carries its own answer, safe to show; asking again does not help."""

    name: str
    status: int
    title: str
    detail: str


_FORBIDDEN: Final = ("origin", 403, "Forbidden")
ORIGIN: Final = Denial(*_FORBIDDEN, "this origin may not open a WebSocket here")
ORIGIN_MISSING: Final = Denial(*_FORBIDDEN, "an Origin is required to open a WebSocket here")
HOST: Final = Denial("host", 421, "Misdirected Request", "this host is not served here")
# RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request
# message that lacks a Host header field and to any request message that contains more than one Host header
# field line or a Host header field with an invalid field value."
BAD_HOST: Final = Denial("host", 400, "Bad Request", "one valid Host field is required")
