"""Measure how racy a WebSocket endpoint is: `readygate probe URL` (design section 9)."""

from __future__ import annotations

from proxy.probe.command import add_arguments, run

__all__ = ["add_arguments", "run"]
