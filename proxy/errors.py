"""What keeps a gate from starting."""

from __future__ import annotations


class StartError(Exception):
    """The gate cannot start, or not take a policy; the text is one clear line."""
