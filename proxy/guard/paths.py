"""Paths that a route and a backend may understand differently."""

from __future__ import annotations

import re
from typing import Final

from proxy.guard.denial import Denial

# RFC 3986 section 6.2.2.2: unreserved characters "should not be percent-encoded"; encoded slashes, and dots
# as segments, are read as structure by many servers, and so are doubled slashes and backslashes.
_ODD: Final = re.compile(
    r"%(?:2[DdEeFf]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe]|25|00)|//|/\.{1,2}(?:/|;|$)|\\"
)


PATH: Final = Denial("path", 400, "Ambiguous path", "the path is not in its normal form")


def path_denied(path: str) -> Denial | None:
    """Return why a request for a path (raw, without query) is refused, None for one with a single meaning.

    Routes see paths as they come. Where they differ in the tokens that they want, `/public/../ws` and `/%77s`
    must not pass by the route of one and reach the backend's handler of the other.
    """
    return None if _ODD.search(path) is None else PATH
