"""Who may come in: origins, hosts, limits, and whose client is counted. Pure; the edge answers."""

from __future__ import annotations

from proxy.guard.client import client_address
from proxy.guard.denial import Denial
from proxy.guard.host import bad_host, host_denied
from proxy.guard.limits import (
    HEADER_BYTES,
    Clients,
    Limit,
    Load,
    Quieter,
    head_bytes,
    limit_reached,
    most_sessions,
    raise_descriptor_limit,
)
from proxy.guard.origin import asked_host, origin_denied

__all__ = [
    "HEADER_BYTES",
    "Clients",
    "Denial",
    "Limit",
    "Load",
    "Quieter",
    "asked_host",
    "bad_host",
    "client_address",
    "head_bytes",
    "host_denied",
    "limit_reached",
    "most_sessions",
    "origin_denied",
    "raise_descriptor_limit",
]
