"""Which pages may open a WebSocket: the defence against cross-site WebSocket hijacking.

A browser lets any page open a WebSocket to anywhere, and sends the user's cookies along. It says which page
that is, and a page cannot change what it says (RFC 6455 section 10.2): "Servers that are not intended to
process input from any web page but only for certain sites SHOULD verify the |Origin| field is an origin they
expect." Who is no browser can say anything, or nothing: it has no cookies of anybody else's either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.guard.denial import ORIGIN, ORIGIN_MISSING, Denial
from proxy.guard.hops import said_by_hop
from proxy.policy.origins import NULL, SAME, authority_of, spellings, split_origin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PAGES = ("http", "https")


def origin_denied(
    origins: Collection[str] | None,
    fields: list[str],
    host: str,
    *,
    required: bool = False,
) -> Denial | None:
    """Return why a handshake with these Origin fields is refused; None if it is not.

    `origins`: those that are let in, as `policy.origins.checked_origin` spells them; None: any. `host`: what
    the client asked for, for the word `same`; see `asked_host`.
    """
    if not fields:
        return ORIGIN_MISSING if required else None
    if origins is None:
        return None
    return None if len(fields) == 1 and _listed(origins, fields[0], host) else ORIGIN


def asked_host(headers: Iterable[tuple[bytes, bytes]], host: str, trusted_hops: int) -> str:
    """Return the host that the client asked for: a trusted hop may have changed `host`, and told so."""
    return said_by_hop(headers, b"x-forwarded-host", trusted_hops) or host


def _listed(origins: Collection[str], origin: str, host: str) -> bool:
    if origin == NULL:  # a sandboxed frame or a local file: of anybody's
        return NULL in origins
    try:
        scheme, authority = split_origin(origin)
        if any(f"{scheme}://{name}" in origins for name in spellings(authority)):
            return True
        # The scheme is left out: whoever ends TLS before the gate makes the two differ.
        return SAME in origins and scheme in _PAGES and authority == authority_of(host, scheme)
    except ValueError:
        return False
