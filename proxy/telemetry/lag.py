"""How late the event loop is: the time that anything ready has to wait, told as a sample a second."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

EVERY_S = 1.0


class LagProbe:
    """Calls `tell` once a second with how many seconds late that was. `start` it in the loop; `stop` it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[float], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin to look."""
        self._due_s = monotonic() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._tell(max(monotonic() - self._due_s, 0.0))
        self.start()
