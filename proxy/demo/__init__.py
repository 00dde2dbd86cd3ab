"""A racy backend, the gate before it, and what each fault does with and without it: `readygate demo`."""

from __future__ import annotations

from proxy.demo.command import add_arguments, run

__all__ = ["add_arguments", "run"]
