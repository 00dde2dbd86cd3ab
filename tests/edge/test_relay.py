"""The hot path on real sockets: bytes as they came, bounded memory, our own pongs cut, proper ends."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.core.adaptive import LearnedWindow
from proxy.core.departure import LearnedQuiet
from proxy.core.frames import BINARY, CONTINUATION, PONG, TEXT, FrameWalker, close_frame, frame
from proxy.core.plan import Role, WindowPlan
from proxy.edge.joined import Joined
from proxy.edge.relay import Held
from proxy.policy import load
from proxy.telemetry import SessionReport
from tests.edge.peers import MASK, Peer, bye, eventually, said, vanish

NONCE = b"8 bytes!"
SMALL = 65536


class Nobody:
    """Owns the legs until they are joined; nothing may happen to them before."""

    def __getattr__(self, name: str):
        raise AssertionError(name)


class Trace:
    """Takes the report of a finished session."""

    def __init__(self) -> None:
        self.report: asyncio.Future[SessionReport] = asyncio.get_running_loop().create_future()

    def finish(self, report: SessionReport, _: float) -> None:
        self.report.set_result(report)


class Open:
    """An open session between two peers."""

    def __init__(self, client: Peer, upstream: Peer, joined: Joined, trace: Trace) -> None:
        self.client, self.upstream = client, upstream
        self.joined = joined
        self.report = trace.report


async def leg(role: Role) -> tuple[Held, Peer]:
    """One connection over loopback with small kernel buffers: our end held, the other a peer."""
    loop = asyncio.get_running_loop()
    held = Held(role, Nobody())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    for sock in (far, near):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    held.transport, _ = await loop.create_connection(lambda: held, sock=near)
    masks = role is Role.CLIENT
    _, peer = await loop.create_connection(lambda: Peer(masks=masks, pongs=False), sock=far)
    return held, peer


@asynccontextmanager
async def opened(*, pongs: bool = False) -> AsyncIterator[Open]:
    client, client_peer = await leg(Role.CLIENT)
    upstream, upstream_peer = await leg(Role.UPSTREAM)
    walkers = (FrameWalker(), FrameWalker())
    if pongs:
        for walker in walkers:
            walker.expect_pong(NONCE)
    trace = Trace()
    settings = load("production").default.settings
    learn = LearnedWindow(WindowPlan(0, 25)), None, LearnedQuiet(settings.departure)
    loop = asyncio.get_running_loop()
    joined = Joined(loop, (client, upstream), walkers, settings, trace, learn, lambda: None)
    try:
        yield Open(client_peer, upstream_peer, joined, trace)
    finally:
        joined.abort()
        await vanish(client_peer, upstream_peer)
        await trace.report


def traffic(count: int, *, masked: bool) -> bytes:
    """Frames of all kinds and lengths, fragmented and not, with reserved bits and empty payloads."""
    dice = random.Random(count)
    parts = []
    for _ in range(count):
        mask = MASK if masked else None
        size = dice.choice([0, 1, 125, 126, 4000, 65535, 65536])
        opcode = dice.choice([TEXT, BINARY, CONTINUATION, 0x3])
        parts.append(frame(opcode, dice.randbytes(size), mask=mask, fin=dice.random() < 0.7))
        parts.append(frame(dice.choice([0x9, PONG]), dice.randbytes(dice.randrange(126)), mask=mask))
    return b"".join(parts)


def test_bytes_go_through_as_they_came_both_ways_at_once(run_on_both):
    async def main():
        async with opened() as session:
            up, down = traffic(60, masked=True), traffic(61, masked=False)
            session.client.send(up)
            session.upstream.send(down)
            assert await session.upstream.exactly(len(up)) == up
            assert await session.client.exactly(len(down)) == down

    run_on_both(main())


@pytest.mark.parametrize("reader", ["client", "upstream"])
def test_a_slow_reader_holds_the_other_leg_and_memory_stays_bounded(reader, run_on_both):
    async def main():
        async with opened() as session:
            slow, fast = session.client, session.upstream
            towards, source = session.joined.client.transport, session.joined.upstream.transport
            if reader == "upstream":
                slow, fast, towards, source = fast, slow, source, towards
            high = (
                towards.get_write_buffer_limits()[1] if hasattr(towards, "get_write_buffer_limits") else 65536
            )
            message = frame(BINARY, bytes(50_000), mask=MASK if fast is session.client else None)
            total, worst = 80 * len(message), 0
            slow.transport.pause_reading()
            for _ in range(80):
                fast.send(message)
            await eventually(lambda: not source.is_reading())
            for _ in range(100):  # nothing moves any more
                await asyncio.sleep(0)
                worst = max(worst, towards.get_write_buffer_size())
            assert not source.is_reading()
            assert fast.transport.get_write_buffer_size() > total // 2  # it stayed with its sender
            slow.transport.resume_reading()
            heard = bytearray()

            def take() -> bool:
                nonlocal worst
                worst = max(worst, towards.get_write_buffer_size())
                heard.extend(slow.raw)
                slow.raw.clear()
                return len(heard) >= total

            await slow.until(take)
            assert heard == message * 80
            assert high <= worst <= high + 512 * 1024  # one read beyond the watermark, never more

    run_on_both(main())


def test_a_leg_that_is_full_at_the_join_starts_with_its_other_leg_paused(run_on_both):
    async def main():
        client, client_peer = await leg(Role.CLIENT)
        upstream, upstream_peer = await leg(Role.UPSTREAM)
        client_peer.transport.pause_reading()
        client.transport.write(bytes(5_000_000))
        assert client.writing_paused
        trace, settings = Trace(), load("production").default.settings
        joined = Joined(
            asyncio.get_running_loop(), (client, upstream), (FrameWalker(), FrameWalker()), settings, trace,
            (LearnedWindow(WindowPlan(0, 25)), None, LearnedQuiet(settings.departure)), lambda: None,
        )  # fmt: skip
        assert not upstream.transport.is_reading()
        assert client.transport.is_reading()
        client_peer.transport.resume_reading()
        await client_peer.exactly(5_000_000)
        await eventually(upstream.transport.is_reading)
        upstream_peer.say("on it goes")
        assert await client_peer.exactly(12) == said("on it goes", masked=False)
        joined.abort()
        await vanish(client_peer, upstream_peer)
        await trace.report

    run_on_both(main())


@pytest.mark.parametrize("speaker", ["client", "upstream"])
@pytest.mark.parametrize("cut", [None, 1, 2, 5, 9])
def test_our_own_late_pong_is_cut_out_wherever_it_is_split(speaker, cut, run_on_both):
    async def main():
        async with opened(pongs=True) as session:
            speaks, hears = session.client, session.upstream
            if speaker == "upstream":
                speaks, hears = hears, speaks
            mask = MASK if speaks is session.client else None
            before, after = frame(TEXT, b"before", mask=mask), frame(TEXT, b"after", mask=mask)
            own, foreign = frame(PONG, NONCE, mask=mask), frame(PONG, b"8 others", mask=mask)
            if cut is None:
                speaks.send(before + own + foreign + after)
            else:
                speaks.send(before + own[:cut])
                assert await hears.exactly(len(before)) == before
                before = b""
                speaks.send(own[cut:] + foreign + after)
            expected = before + foreign + after
            assert await hears.exactly(len(expected)) == expected
            speaks.send(own)  # a second one is none of ours
            assert await hears.exactly(len(own)) == own

    run_on_both(main())


def test_a_clients_close_is_answered_at_once_and_told_to_a_quiet_upstream_with_codes_and_counts(run_on_both):
    async def main():
        async with opened() as session:
            session.client.say("four")
            await session.upstream.exactly(len(said("four")))
            session.joined.client.said_s -= 60  # a minute ago
            session.joined.upstream.said_s -= 60
            session.client.send(bye(4000, "enough"))
            assert await session.client.end() == close_frame(4000, "enough")
            session.upstream.start_frames()
            assert await session.upstream.closed() == (4000, "enough")
            session.upstream.send(close_frame(4000))
            session.upstream.close()
            session.client.close()
            report = await session.report
            assert (report.ended_by, report.client_code, report.upstream_code) == ("client", 4000, 4000)
            assert (report.client.text_messages, report.client.bytes) == (1, 4)
            assert report.departure.quiet_ms < 50

    run_on_both(main())


def test_after_a_close_the_other_direction_stays_open_until_it_ends_too(run_on_both):
    """RFC 6455 5.5.1: an endpoint "MAY delay sending a Close frame until its current message is sent"."""

    async def main():
        async with opened() as session:
            session.upstream.send(close_frame(1000))
            session.upstream.end_writing()
            assert await session.client.end() == close_frame(1000)  # an EOF of one direction alone
            last = said("one more thing") + bye(1000)
            session.client.send(last)
            assert await session.upstream.exactly(len(last)) == last
            session.client.close()
            await session.upstream.end()
            assert (await session.report).ended_by == "upstream"

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_an_upstream_lost_at_a_frame_boundary_is_told_as_1014(leave, run_on_both):
    async def main():
        async with opened() as session:
            session.upstream.say("last words")
            assert await session.client.exactly(12) == said("last words", masked=False)
            leave(session.upstream)
            assert await session.client.end() == close_frame(1014)
            session.client.close()
            report = await session.report
            assert (report.ended_by, report.upstream_code) == ("upstream", None)

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
@pytest.mark.parametrize("missing", [1, 5, 11])
def test_an_upstream_lost_inside_a_frame_gets_nothing_of_ours_behind_it(leave, missing, run_on_both):
    async def main():
        async with opened() as session:
            torso = said("last words", masked=False)[:-missing]
            session.upstream.send(torso)
            assert await session.client.exactly(len(torso)) == torso
            leave(session.upstream)
            assert await session.client.end() == b""
            session.client.close()
            await session.report

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_nothing_of_ours_goes_in_after_an_upstreams_close(leave, run_on_both):
    async def main():
        async with opened() as session:
            session.upstream.send(close_frame(1011, "broken"))
            assert await session.client.exactly(10) == close_frame(1011, "broken")
            session.joined.end("drain", 1012)
            leave(session.upstream)
            assert await session.client.end() == b""
            session.client.close()
            await session.report

    run_on_both(main())


def test_a_gate_that_stops_closes_both_legs_where_a_frame_ends(run_on_both):
    async def main():
        async with opened() as session:
            torso = said("in the middle")[:-3]
            session.client.send(torso)
            assert await session.upstream.exactly(len(torso)) == torso
            session.joined.end("drain", 1012)
            assert await session.client.exactly(4) == close_frame(1012)
            session.client.close()
            assert await session.upstream.end() == b""  # inside a frame: no Close of ours
            session.upstream.close()
            assert (await session.report).ended_by == "gate"

    run_on_both(main())


@pytest.mark.parametrize("first", ["client", "upstream"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_two_peers_that_vanish_in_the_same_moment_end_the_session_in_silence(first, leave, run_on_both):
    async def main():
        async with opened() as session:
            peers = [session.client, session.upstream]
            for peer in peers if first == "client" else reversed(peers):
                leave(peer)
            await session.report

    run_on_both(main())


def test_a_session_whose_peers_vanish_while_the_gate_stops_ends_in_silence(run_on_both):
    async def main():
        async with opened() as session:
            session.client.reset()
            session.upstream.reset()
            session.joined.end("drain", 1012)
            await session.report

    run_on_both(main())
