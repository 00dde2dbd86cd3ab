"""`python -m tests.hostile.attacker PORT COUNT SECONDS SEED`: all hostile connections, evenly over that time.

A process of its own, which takes no CPU that another wants. At the end it prints JSON: how many
of each kind ended how.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter

import uvloop

from tests.backends import launch
from tests.hostile.kinds import KINDS, Kind, Line
from tests.hostile.way import give_way

PATIENCE_S = 20.0


async def one(name: str, kind: Kind, port: int, seed: str, ends: dict[str, Counter[str]]) -> None:
    """Open one connection and do that harm."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        ends[name][f"not connected: {type(error).__name__}"] += 1
        return
    try:
        async with asyncio.timeout(PATIENCE_S):
            ends[name][await kind(Line(reader, writer, random.Random(seed)))] += 1
    except TimeoutError:
        ends[name]["held"] += 1
    except ConnectionError:
        ends[name]["reset"] += 1
    finally:
        writer.transport.abort()


def deal(count: int, dice: random.Random) -> list[str]:
    """Return the kinds of so many connections, by their shares, in random order."""
    dealt = [name for name, (_, share) in KINDS.items() for _ in range(share * count // 10_000)]
    dealt += dice.choices(list(KINDS), k=count - len(dealt))
    dice.shuffle(dealt)
    return dealt


async def attack(port: int, count: int, seconds: float, seed: str) -> dict[str, Counter[str]]:
    """Open all of them, one after the other, and wait for their ends."""
    loop = asyncio.get_running_loop()
    ends: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(deal(count, random.Random(seed))):
            await asyncio.sleep(max(began_s + number * seconds / count - loop.time(), 0))
            group.create_task(one(name, KINDS[name][0], port, f"{seed}/{number}", ends))
    return ends


if __name__ == "__main__":
    give_way()
    launch.may_open()
    port, count, seconds, seed = sys.argv[1:]
    print(json.dumps(uvloop.run(attack(int(port), int(count), float(seconds), seed))), flush=True)
