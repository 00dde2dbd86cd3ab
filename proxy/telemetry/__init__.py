"""What readygate tells about itself: traces, metrics, log lines. Nothing secret gets past `redact`."""

from __future__ import annotations

from proxy.telemetry.facts import (
    DepartureFacts,
    EndedBy,
    EndReason,
    RequestFacts,
    SessionReport,
    Subject,
    Traffic,
)
from proxy.telemetry.lag import LagProbe
from proxy.telemetry.session_trace import SessionTrace
from proxy.telemetry.telemetry import Telemetry
from proxy.telemetry.traces import HandshakeTrace

__all__ = [
    "DepartureFacts",
    "EndReason",
    "EndedBy",
    "HandshakeTrace",
    "LagProbe",
    "RequestFacts",
    "SessionReport",
    "SessionTrace",
    "Subject",
    "Telemetry",
    "Traffic",
]
