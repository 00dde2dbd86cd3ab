"""Which host a request is for, and whether it is served here.

A page that had its own name resolve to the gate's address (DNS rebinding) speaks to it from a user's browser
as if it were that name's server. What gives it away is the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.guard.denial import BAD_HOST, HOST, Denial
from proxy.guard.hops import entries_of
from proxy.policy.origins import is_authority, spellings, split_authority

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


def bad_host(fields: Sequence[str], host: str, *, required: bool) -> Denial | None:
    """Return why a request's Host fields make it no request (RFC 9112 section 3.2); None if they do not.

    `host`: what it is for, the field's value or an absolute-form target's authority; "" for neither.
    `required`: there has to be a field, as in HTTP/1.1.
    """
    if len(fields) != 1 and (fields or required):
        return BAD_HOST
    field = fields[0] if fields else None
    if field is not None and not is_authority(field):
        return BAD_HOST
    return BAD_HOST if host and host != field and not is_authority(host) else None


def host_denied(
    hosts: Collection[str], host: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> Denial | None:
    """Return why a request for this host ("": it names none) is not served; None if it is.

    `hosts`: those that are, as `policy.origins.checked_host` spells them; one without a port is served on
    any. The upstream may go by an X-Forwarded-Host instead, so those in `headers` have to be served as well.
    """
    named = [host, *entries_of(headers, b"x-forwarded-host")]
    return None if all(_listed(hosts, each) for each in named) else HOST


def _listed(hosts: Collection[str], text: str) -> bool:
    try:
        host, port = split_authority(text)
    except ValueError:
        return False
    ports = (port,) if port else ("80", "443")  # clients leave these out
    return any(name in hosts or any(f"{name}:{each}" in hosts for each in ports) for name in spellings(host))
