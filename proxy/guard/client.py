"""Who the client is: its address, as far as what is said of it can be trusted."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def client_address(headers: Iterable[tuple[bytes, bytes]], peer: str, trusted_hops: int) -> str:
    """Return the client's address; "" where nobody knows it.

    Anybody can send an X-Forwarded-For. Each proxy appends the address that it was reached from, so only as
    many entries from the right are true as there are proxies of one's own before the gate: `trusted_hops`.
    With n of them it is the n-th entry from the right, the leftmost if there are fewer. With none, and where
    that entry is no address, it is `peer`, the other end of the connection.
    """
    if not trusted_hops:
        return peer
    lines = (value for name, value in headers if name.lower() == b"x-forwarded-for")
    entries = [entry for part in b",".join(lines).split(b",") if (entry := part.strip())]
    if not entries:
        return peer
    return _address(entries[-min(trusted_hops, len(entries))].decode("latin-1")) or peer


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
