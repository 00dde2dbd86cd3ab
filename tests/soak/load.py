"""The load of the soak: sessions that connect, talk and leave in every way there is, so many a second."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.backends import wire

Address = tuple[str, int]

BOUND_S = 15.0
AT_ONCE = 256
PATHS = ("/ws/echo", "/ws/loop")


async def polite(client: wire.Wire) -> None:
    """Close, and be answered with the same code."""
    await client.leave(1000)
    assert client._close == (1000, ""), f"its Close was answered with {client._close}"


async def hang_up(client: wire.Wire) -> None:
    """End the connection without a word."""
    client.hang_up()
    await client.gone.wait()


async def reset(client: wire.Wire) -> None:
    """Vanish."""
    client.abort()
    await client.gone.wait()


def saying_more(leave: Callable[[wire.Wire], Awaitable[None]]) -> Callable[[wire.Wire], Awaitable[None]]:
    """Return the same with a message right before, whose reply meets nobody."""

    async def say_and_leave(client: wire.Wire) -> None:
        client.send(wire.text("last words"), wire.text("the very last"))
        await leave(client)

    return say_and_leave


WAYS = {
    "polite": polite,
    "hang up": hang_up,
    "reset": reset,
    "send and close": saying_more(polite),
    "send and hang up": saying_more(hang_up),
    "send and reset": saying_more(reset),
}


class Load:
    """`done`: finished sessions by how they left. `failed`: what went wrong, and how often."""

    def __init__(self, address: Address, rate: float, seed: int = 1) -> None:
        self.address, self.rate = address, rate
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def for_seconds(self, seconds: float) -> float:
        """Start sessions at the rate, as far as the machine keeps up; return how long all of it took."""
        loop = asyncio.get_running_loop()
        began_s, tasks, number = loop.time(), set(), 0
        while loop.time() - began_s < seconds:
            await asyncio.sleep(max(began_s + number / self.rate - loop.time(), 0))
            await self._slots.acquire()
            task = loop.create_task(self._session(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)
        return loop.time() - began_s

    async def _session(self, number: int) -> None:
        way = self.dice.choice(list(WAYS))
        try:
            async with asyncio.timeout(BOUND_S):
                await self._talk(number, way)
            self.done[way] += 1
        except Exception as error:
            self.failed[f"{way}: {type(error).__name__}: {error}"[:200]] += 1
        finally:
            self._slots.release()

    async def _talk(self, number: int, way: str) -> None:
        client = await wire.opened(self.address, PATHS[number % len(PATHS)])
        try:
            for turn in range(self.dice.randint(1, 3)):
                words = f"{number}:{turn}".encode()
                client.send(wire.text(words.decode()))
                heard = await client.message()
                assert heard == words, f"said {words!r}, heard {heard!r}"
            await WAYS[way](client)
        finally:
            client.abort()
