"""A fault family: which servers, which clients, which policy for the gate; and one run of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.backends import launch
from tests.backends.launch import Server
from tests.race.clients import Address, Outcome

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """One family on one server, one way: where to connect, how many connections, how many at a time.

    `begin` starts the backend of a late family; `backend` is None until then.
    """

    address: Address
    backend: Server | None
    begin: Callable[[], Server]
    label: str
    count: int
    concurrency: int

    async def crowd(self, one: Callable[[int], Awaitable[T]]) -> list[T]:
        """Run `one` for each number, at most `concurrency` at a time."""
        gate = asyncio.Semaphore(self.concurrency)

        async def entered(number: int) -> T:
            async with gate:
                return await one(number)

        return await asyncio.gather(*(entered(number) for number in range(self.count)))


@dataclass(frozen=True, slots=True)
class Family:
    """A fault family. A `late` backend is started by the clients, a `quiet_log` must stay empty.

    `at_most` so many clients at a time, where a client that is too busy to read would spoil the result.
    """

    name: str
    title: str
    servers: tuple[str, ...]
    clients: Callable[[Run], Awaitable[list[Outcome]]]
    policy: str = "production"
    late: bool = False
    quiet_log: bool = False
    at_most: int = 1000

    def start(self, server: str, port: int) -> Server:
        if self.late:
            return launch.uvicorn(server.removeprefix("uvicorn-"), port=port, wait=False)
        return launch.flaky(port=port) if server == "flaky" else launch.BACKENDS[server](port=port)
