"""SIGHUP: "load the policy again", unless it came because our terminal is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hangups:
    """`asked` is set by each SIGHUP from now on, also before there is a loop to `listen` on. Make it early.

    A gate in the foreground of a terminal that is closed gets one, too, and is then to stop, as it would
    without us; under nohup(1) it is to stay.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        spared = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._terminal = not spared and _has_terminal()
        signal.signal(signal.SIGHUP, lambda *_: self.asked.set())
        _unblock()

    def listen(self, stop: Callable[[], None]) -> None:
        """Take signals on the running loop; `stop` is called when the terminal has gone."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._came, stop)

    def _came(self, stop: Callable[[], None]) -> None:
        if self._terminal and not _has_terminal():
            stop()
        else:
            self.asked.set()


def ignore() -> None:
    """Let SIGHUPs do nothing in this process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _unblock()


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
