"""What readygate tells about itself: traces, metrics, log lines. Nothing secret gets past `redact`.

OpenTelemetry's SDK is not imported here: the supervisor of several workers has log lines only.
"""

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

__all__ = [
    "DepartureFacts",
    "EndReason",
    "EndedBy",
    "LagProbe",
    "RequestFacts",
    "SessionReport",
    "Subject",
    "Traffic",
]
