"""Giving way: who attacks, and who is attacked, run only when nobody else wants this machine's cores."""

from __future__ import annotations

import os


def give_way() -> None:
    """Let everybody else's work on this machine go first from now on."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        os.nice(19)
