"""What the proxies before the gate say of a request, as far as they can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def entries_of(headers: Iterable[tuple[bytes, bytes]], field: bytes) -> list[str]:
    """Return the entries of a list field, over all its lines, empty ones left out. `field`: lower case."""
    lines = (value for name, value in headers if name.lower() == field)
    return [entry.decode("latin-1") for part in b",".join(lines).split(b",") if (entry := part.strip())]


def said_by_hop(headers: Iterable[tuple[bytes, bytes]], field: bytes, trusted_hops: int) -> str:
    """Return the entry that can be trusted; "" for none.

    Anybody can send such a field. Each proxy of one's own appends an entry (or replaces them all), so only as
    many from the right are true as there are such proxies. With n of them it is the n-th entry from the
    right, the leftmost if there are fewer.
    """
    entries = entries_of(headers, field) if trusted_hops else []
    return entries[-min(trusted_hops, len(entries))] if entries else ""
