"""Who the client is: its address, as far as what is said of it can be trusted."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from proxy.guard.hops import said_by_hop

if TYPE_CHECKING:
    from collections.abc import Iterable


def client_address(headers: Iterable[tuple[bytes, bytes]], peer: str, trusted_hops: int) -> str:
    """Return the client's address; "" where nobody knows it.

    It is the entry of X-Forwarded-For that the hops can be trusted for; with none of them, and where that
    entry is no address, it is `peer`, the other end of the connection.
    """
    return _address(said_by_hop(headers, b"x-forwarded-for", trusted_hops)) or peer


def _address(entry: str) -> str:
    """Return an entry's address in its one spelling, without the port that some proxies add; "" for none."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        address = ipaddress.ip_address(entry)
    except ValueError:
        return ""
    return "" if "%" in entry else str(address)  # a zone is a name of somebody else's, and may be any text
