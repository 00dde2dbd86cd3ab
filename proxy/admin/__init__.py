"""The admin listener: what the gate does now, for people, probes and Prometheus. Changes nothing.

aiohttp is not imported here, nor OpenTelemetry: who may ask is parsed with the options, by processes that
need neither.
"""

from __future__ import annotations

from proxy.admin.access import AdminAccess
from proxy.admin.events import EventFeed
from proxy.admin.health import HEALTH_NAMES, health
from proxy.admin.state import (
    About,
    AdminState,
    Health,
    LegSnapshot,
    NowSnapshot,
    SessionSnapshot,
    WindowSnapshot,
)

__all__ = [
    "HEALTH_NAMES",
    "About",
    "AdminAccess",
    "AdminState",
    "EventFeed",
    "Health",
    "LegSnapshot",
    "NowSnapshot",
    "SessionSnapshot",
    "WindowSnapshot",
    "health",
]
