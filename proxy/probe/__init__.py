"""Measure how racy a WebSocket endpoint is: `readygate probe URL`."""

from __future__ import annotations

from proxy.probe.command import add_arguments, run

__all__ = ["add_arguments", "run"]
