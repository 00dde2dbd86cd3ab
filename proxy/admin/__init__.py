"""The admin listener: what the gate does now, for people, probes and Prometheus. Changes nothing."""

from __future__ import annotations

from proxy.admin.access import AdminAccess
from proxy.admin.app import build
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
    "build",
    "health",
]
