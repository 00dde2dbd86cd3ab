"""Who may come in: limits, and whose client is counted. Pure numbers; the edge answers, telemetry tells."""

from __future__ import annotations

from proxy.guard.client import client_address
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

__all__ = [
    "HEADER_BYTES",
    "Clients",
    "Limit",
    "Load",
    "Quieter",
    "client_address",
    "head_bytes",
    "limit_reached",
    "most_sessions",
    "raise_descriptor_limit",
]
