"""The relay does the harm that it is told to, and no other: real sockets on both sides."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from proxy.core.frames import PING, frame
from tests.chaos.relay import Relay
from tests.chaos.stream import How, Way
from tests.edge.peers import Backend, Peer, eventually, said, vanish

HELLO = b"GET /ledger/7 HTTP/1.1\r\n\r\n"


class Counting(Peer):
    """A peer that knows in how many pieces it was told what it was told."""

    pieces = 0

    def data_received(self, data: bytes) -> None:
        self.pieces += 1
        super().data_received(data)


class Stand:
    """A relay between a backend and clients that the test plays both."""

    def __init__(self, relay: Relay, backend: Backend) -> None:
        self.relay, self.backend = relay, backend
        self.clients: list[Peer] = []

    async def pair(self, first: bytes = HELLO) -> tuple[Peer, Peer]:
        """Return both ends of a new link; `first` has gone through."""
        client = await Counting.dial(self.relay.port, first)
        self.clients.append(client)
        target = await self.backend.connection()
        assert await target.exactly(len(first)) == first
        return client, target

    @property
    def link(self):
        """The newest link."""
        return self.relay.links[max(self.relay.links)]

    async def time_passes(self) -> None:
        """Let another link do several round trips."""
        client, target = await self.pair()
        for _ in range(20):
            client.send(b"ping")
            await target.exactly(4)
            target.send(b"pong")
            await client.exactly(4)
        client.reset()
        await target.gone()


@asynccontextmanager
async def standing() -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend.listening())
        relay = await stack.enter_async_context(Relay.listening(("127.0.0.1", backend.port)))
        stand = Stand(relay, backend)
        yield stand
        await vanish(*stand.clients)


def with_stand(run: Callable, test: Callable[[Stand], object]) -> None:
    async def story() -> None:
        async with standing() as stand:
            await test(stand)

    run(story())


def test_bytes_and_ends_pass_as_they_came(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        assert stand.link.path == "/ledger/7"
        target.send(b"answer" * 100_000)
        assert await client.exactly(600_000) == b"answer" * 100_000
        client.send(b"last words")
        client.end_writing()
        assert await target.end() == b"last words"
        target.send(b"late answer")
        target.close()
        assert await client.end() == b"late answer"
        client.close()
        await eventually(lambda: not stand.relay.links)

    with_stand(run, story)


@pytest.mark.parametrize("who", ["client", "target"])
def test_a_reset_of_one_end_reaches_the_other_as_a_reset(run, who: str):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        leaves, stays = (client, target) if who == "client" else (target, client)
        leaves.reset()
        await stays.gone()
        assert isinstance(stays.error, ConnectionResetError)
        await eventually(lambda: not stand.relay.links)

    with_stand(run, story)


def test_a_link_that_is_reset_is_so_on_both_sides(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        stand.link.reset()
        for end in (client, target):
            await end.gone()
            assert isinstance(end.error, ConnectionResetError)

    with_stand(run, story)


def test_a_target_that_is_not_there_resets_the_client(run):
    async def story(stand: Stand) -> None:
        async with Backend.listening() as gone:
            stand.relay.target = ("127.0.0.1", gone.port)
        client = await Peer.dial(stand.relay.port, HELLO)
        await client.gone()
        assert not stand.relay.links

    with_stand(run, story)


def test_a_trickling_link_passes_on_every_byte_alone_and_in_order(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        stand.link.trickle()
        before = client.pieces
        words = bytes(range(200))
        target.send(words)
        assert await client.exactly(200) == words
        assert client.pieces - before > 100
        target.send(words)
        stand.link.trickle(on=False)
        target.close()
        assert await client.end() == words

    with_stand(run, story)


def test_a_frozen_link_passes_on_neither_bytes_nor_ends_until_it_thaws(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        link = stand.link
        link.freeze()
        client.send(b"into the void")
        target.send(b"from the void")
        client.end_writing()
        await stand.time_passes()
        assert not client.raw
        assert not target.raw
        assert not target.eof
        link.thaw()
        assert await target.end() == b"into the void"
        assert await client.exactly(13) == b"from the void"

    with_stand(run, story)


def test_a_frozen_link_hides_a_reset(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        link = stand.link
        link.freeze()
        client.reset()
        await client.gone()
        await stand.time_passes()
        assert not target.lost
        link.thaw()
        await target.gone()

    with_stand(run, story)


def test_a_link_frozen_in_one_direction_talks_in_the_other(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        stand.link.freeze(Way.TO_TARGET)
        client.send(b"nobody hears this")
        for _ in range(20):
            target.send(b"heard")
            assert await client.exactly(5) == b"heard"
        assert not target.raw

    with_stand(run, story)


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_cut_is_inside_the_next_data_frame(run, how: How, way: Way, depth: float):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        target.send(HELLO)
        await client.exactly(len(HELLO))
        speaks, hears = (client, target) if way is Way.TO_TARGET else (target, client)
        stand.link.cut(way, how, depth)
        ping, last = frame(PING, b"control frames pass"), said("this one is cut", masked=False)
        speaks.send(ping, last)
        torso = (await hears.end()).removeprefix(ping)
        assert 0 < len(torso) < len(last)
        assert last.startswith(torso)
        hears.close()
        await speaks.gone()
        await hears.gone()
        assert isinstance(speaks.error, ConnectionResetError)
        assert isinstance(hears.error, ConnectionResetError) == (how is How.RESET)

    with_stand(run, story)


def test_who_listens_no_more_refuses_and_keeps_its_links(run):
    async def story(stand: Stand) -> None:
        client, target = await stand.pair()
        stand.relay.shut()
        with pytest.raises(ConnectionRefusedError):
            await Peer.dial(stand.relay.port)
        client.send(b"still here")
        assert await target.exactly(10) == b"still here"
        await stand.relay.open()
        await stand.pair()

    with_stand(run, story)


def test_a_share_is_drawn_by_the_dice(run):
    async def story(stand: Stand) -> None:
        for _ in range(10):
            await stand.pair()
        await eventually(lambda: all(link.joined for link in stand.relay.links.values()))
        drawn = stand.relay.share(0.3, random.Random(7))
        assert len(set(drawn)) == 3
        assert drawn == stand.relay.share(0.3, random.Random(7))
        assert len(stand.relay.share(1.0, random.Random(7))) == 10

    with_stand(run, story)
