"""What a gate holds, before and after: sessions, descriptors, tasks, memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.backends import launch, wire
from tests.bench import idle, process

SETTLE_S = 1.0
MEMORY_BACK = 1.15


@dataclass(frozen=True, slots=True)
class Reading:
    """`tasks` is None for a gate that does not tell."""

    sessions: int
    descriptors: int
    rss_kb: int
    tasks: int | None


async def metric(gate: launch.Server, name: str) -> int | None:
    """Return the value of a metric without labels; None when there is none."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await (await wire.Wire.dial((gate.host, gate.admin_port), request)).body()
    for line in answer.decode().splitlines():
        found, _, value = line.partition(" ")
        if found == name:
            return int(float(value))
    return None


async def read(gate: launch.Server) -> Reading:
    """Look at it now. Not right after another look: its own connections count for as long as they last."""
    descriptors, (rss_kb, _) = process.descriptors(gate.pid), process.memory_kb(gate.pid)
    return Reading(await idle.session_count(gate), descriptors, rss_kb, await metric(gate, "readygate_tasks"))


async def settled(gate: launch.Server) -> Reading:
    """Wait until it has no session, and look at it when its allocator has had its moment."""

    async def empty() -> bool:
        return not await idle.session_count(gate)

    await idle.until(empty)
    await asyncio.sleep(SETTLE_S)
    return await read(gate)


async def given_back(
    gate: launch.Server, before: Reading, wrong: Callable[[Reading, Reading], list[str]]
) -> Reading:
    """Look until nothing is wrong, or for as long as one may; return the last look."""
    last = before

    async def clean() -> bool:
        nonlocal last
        last = await read(gate)
        return not wrong(before, last)

    await idle.until(clean)
    return last


def left_over(before: Reading, after: Reading) -> list[str]:
    """Return what the gate has not let go, a sentence each."""
    wrong = []
    if after.sessions:
        wrong.append(f"{after.sessions} sessions are stuck")
    if after.descriptors > before.descriptors:
        wrong.append(f"{after.descriptors} descriptors, {before.descriptors} before")
    if before.tasks is not None and (after.tasks is None or after.tasks > before.tasks):
        wrong.append(f"{after.tasks} tasks, {before.tasks} before")
    return wrong


def left_over_or_swollen(before: Reading, after: Reading) -> list[str]:
    """Return what it has not let go, and whether its memory is not back."""
    return left_over(before, after) + swollen(before, after)


def swollen(before: Reading, after: Reading) -> list[str]:
    """Return whether its memory is not back, in a sentence."""
    if after.rss_kb <= before.rss_kb * MEMORY_BACK:
        return []
    return [f"{after.rss_kb} KB resident, {before.rss_kb} before: more than {MEMORY_BACK} times it"]
