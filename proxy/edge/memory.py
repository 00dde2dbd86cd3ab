"""Giving memory back: after a wave of sessions the allocator keeps what they used, unless it is asked.

And what the garbage collector need not look at.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# A wave is worth a collection (some ms) when it was this high and has gone down to a quarter.
_WAVE: Final = 256
_EBB: Final = 4

_LIBC: Final = ctypes.CDLL(None)


class Tide:
    """Watches the number of sessions. `ebbed` says when a wave has gone and `release` is worth its time."""

    __slots__ = ("_peak",)

    def __init__(self) -> None:
        self._peak = 0

    def ebbed(self, sessions: int) -> bool:
        """Note how many sessions there are; return whether a wave has just gone."""
        self._peak = max(self._peak, sessions)
        if self._peak < _WAVE or sessions > self._peak // _EBB:
            return False
        self._peak = sessions
        return True


def set_aside() -> None:
    """Leave what exists now, which lives as long as the process, out of all collections from here on.

    `readygate run` starts with the collector off and has made next to no garbage; looking for it would take a
    tenth of the start. Anybody else may have made some.
    """
    if gc.isenabled():
        gc.collect()
    gc.freeze()
    gc.enable()


def release() -> None:
    """Collect garbage and return free pages to the system (glibc; elsewhere the C library decides itself)."""
    gc.collect()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
