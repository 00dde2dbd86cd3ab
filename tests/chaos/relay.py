"""A TCP relay that does harm on command: resets, single bytes, silence without an end, cuts inside frames.

It stands on a loopback port before a target and passes bytes and ends on as they come, until it is told
otherwise for a link, which is one client's connection and the one that was made for it:

    async with Relay.listening(target) as relay:
        for link in relay.share(0.2, dice):
            link.freeze(Way.TO_TARGET)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.stream import How, Side, Stream, Way

Address = tuple[str, int]


class Link:
    """One client's connection and the one that was made to the target for it."""

    def __init__(self, relay: Relay, number: int) -> None:
        self.relay, self.number = relay, number
        self.client, self.target = Side(self), Side(self)
        self.streams = {
            Way.TO_TARGET: Stream(self.client, self.target),
            Way.TO_CLIENT: Stream(self.target, self.client),
        }
        there, back = self.streams.values()
        there.opposite, back.opposite = back, there
        self.client.stream, self.target.stream = there, back
        self._connecting: asyncio.Task[None] | None = None
        self.joined = False

    @property
    def path(self) -> str:
        """What the client asked for in its first request: it tells whose link this is."""
        words = self.streams[Way.TO_TARGET].boundary.first.split(" ")
        return words[1] if len(words) > 1 else ""

    def reset(self) -> None:
        """End both connections with a TCP reset."""
        self.client.reset()
        if self.joined:
            self.target.reset()

    def freeze(self, *ways: Way) -> None:
        """Neither read nor write in these directions (default: both) any more, and hide every end."""
        for way in ways or Way:
            self.streams[way].freeze()

    def thaw(self) -> None:
        """Pass on again, what was held back first."""
        for stream in self.streams.values():
            stream.thaw()

    def trickle(self, *, on: bool = True) -> None:
        """Pass on one byte at a time, each in a write and a segment of its own."""
        for stream in self.streams.values():
            stream.trickle(on=on)

    def cut(self, way: Way, how: How, depth: float = 0.5) -> None:
        """End the link inside the next data frame of that direction, behind this share of its length."""
        self.streams[way].cut(how, depth)

    # -- for its sides --------------------------------------------------------------------------------------

    def made(self, side: Side) -> None:
        """Connect to the target once the client is there; what it says meanwhile waits."""
        if side is self.client:
            self.relay.links[self.number] = self
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.target, *self.relay.target)
        except OSError:
            self.target.gone = True
            self.client.reset()
            self._forget_if_over()
            return
        self.joined = True
        if self.client.gone:
            self.target.reset()
        else:
            for stream in self.streams.values():
                stream.begin()

    def lost(self, side: Side, exc: Exception | None) -> None:
        """Pass a loss on; forget the link once both sides are gone."""
        if self.joined:
            side.stream.lost(exc)
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self.client.gone and self.target.gone:
            self.relay.forget(self)


class Relay:
    """A listening port whose connections go to `target`. `links` are those that are not over."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.links: dict[int, Link] = {}
        self.port = 0
        self._count = 0
        self._server: asyncio.Server | None = None
        self._over = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def listening(cls, target: Address, port: int = 0) -> AsyncIterator[Relay]:
        """Listen for as long as the context lasts; links that are left then are reset."""
        relay = cls(target)
        relay.port = port
        await relay.open()
        try:
            yield relay
        finally:
            relay.shut()
            for link in list(relay.links.values()):
                link.reset()
            while relay.links:
                relay._over.clear()
                await relay._over.wait()

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    async def open(self) -> None:
        """Listen (again, on the same port)."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._link, *self.address, backlog=4096, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Listen no more: further clients are refused, links stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def share(self, share: float, dice: random.Random) -> list[Link]:
        """Return a random share of the links that have both connections, as many as come to it."""
        ready = [link for link in self.links.values() if link.joined and not link.client.gone]
        return dice.sample(ready, round(share * len(ready)))

    def forget(self, link: Link) -> None:
        """Both sides of the link are gone."""
        self.links.pop(link.number, None)
        self._over.set()

    def _link(self) -> Side:
        self._count += 1
        return Link(self, self._count).client
