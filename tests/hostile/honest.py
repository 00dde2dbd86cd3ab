"""Honest sessions: each echoes at a steady pace, and notes how long every echo took."""

from __future__ import annotations

import asyncio
import time

from tests.backends import wire

EVERY_S = 0.2
PATIENCE_S = 10.0


class Sessions:
    """Sessions that stay. `times_s`: of the echoes since `begin`; `lost`: a sentence for each that ended."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._address, self._count = address, count
        self._tasks: list[asyncio.Task[None]] = []
        self.times_s: list[float] = []
        self.lost: list[str] = []

    async def open(self) -> None:
        """Open them all and let them talk."""
        for number in range(self._count):
            connection = await wire.opened(self._address, f"/ws/{number}")
            self._tasks.append(asyncio.create_task(self._talk(number, connection)))

    def begin(self) -> None:
        """Begin a phase: what was measured before does not count."""
        self.times_s = []

    async def leave(self) -> None:
        """Close them properly."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self, number: int, connection: wire.Wire) -> None:
        loop = asyncio.get_running_loop()
        next_s = loop.time() + number * EVERY_S / self._count
        count, text = 0, ""
        try:
            while True:
                await asyncio.sleep(next_s - loop.time())
                text = f"{number}:{count}"
                said_s = time.perf_counter()
                connection.send(wire.text(text))
                async with asyncio.timeout(PATIENCE_S):
                    if (heard := await connection.message()) != text.encode():
                        raise ValueError(f"heard {heard[:40]!r}")
                self.times_s.append(time.perf_counter() - said_s)
                count += 1
                next_s = max(next_s + EVERY_S, loop.time())
        except asyncio.CancelledError:
            late = await connection.leave()
            if late not in ([], [text.encode()]):
                self.lost.append(f"session {number}: {late[0][:40]!r} came late")
            raise
        except (wire.ClosedError, OSError, ValueError) as error:
            self.lost.append(f"session {number}, echo {count}: {type(error).__name__} {error}")
            connection.abort()


def percentile_ms(times_s: list[float], share: float) -> float:
    """Return a percentile in ms; of no times, not a number."""
    ordered = sorted(times_s)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else float("nan")
