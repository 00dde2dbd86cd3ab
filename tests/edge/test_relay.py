"""The hot path on real sockets: bytes as they came, bounded memory, our own pongs cut, proper ends."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from proxy.core.adaptive import LearnedWindow
from proxy.core.departure import LearnedQuiet
from proxy.core.frames import BINARY, CONTINUATION, PONG, TEXT, FrameWalker, close_frame, frame
from proxy.core.plan import Role, WindowPlan
from proxy.edge.joined import Joined
from proxy.edge.relay import Held, Relay
from proxy.edge.splicing import Spliced
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
    """Takes the report of a finished session, and when the upstream first replied."""

    def __init__(self) -> None:
        self.replies: list[float] = []
        self.report: asyncio.Future[SessionReport] = asyncio.get_running_loop().create_future()

    def finish(self, report: SessionReport, _: float) -> None:
        self.report.set_result(report)

    def replied(self, at_ms: float) -> None:
        self.replies.append(at_ms)


class Open:
    """An open session between two peers."""

    def __init__(self, client: Peer, upstream: Peer, joined: Joined, trace: Trace) -> None:
        self.client, self.upstream = client, upstream
        self.joined = joined
        self.report = trace.report
        self.replies = trace.replies


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


async def tls_leg() -> tuple[Held, Peer]:
    """The same to an upstream over TLS."""
    authority, loop = trustme.CA(), asyncio.get_running_loop()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("backend.test").configure_cert(theirs)
    authority.configure_trust(ours)
    peer, held = Peer(masks=False, pongs=False), Held(Role.UPSTREAM, Nobody())
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=theirs)
    where = server.sockets[0].getsockname()
    held.transport, _ = await loop.create_connection(
        lambda: held, *where, ssl=ours, server_hostname="backend.test"
    )
    await eventually(lambda: hasattr(peer, "transport"))
    server.close()
    return held, peer


@asynccontextmanager
async def opened(
    *, pongs: bool = False, tls: bool = False, message_bytes: int | None = None
) -> AsyncIterator[Open]:
    client, client_peer = await leg(Role.CLIENT)
    upstream, upstream_peer = await (tls_leg() if tls else leg(Role.UPSTREAM))
    walkers = (FrameWalker(), FrameWalker())
    for walker in walkers:
        walker.message_bytes = message_bytes
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


def splice(joined: Joined) -> None:
    """Let the kernel move what is long, both ways, without waiting for long chunks."""
    for relay, to in ((joined.client, joined.upstream), (joined.upstream, joined.client)):
        Spliced(relay, to.transport)


def long(seed: int, size: int, *, masked: bool = False) -> bytes:
    """A long message of its own."""
    return frame(BINARY, random.Random(seed).randbytes(size), mask=MASK if masked else None)


@pytest.mark.parametrize("spliced", [False, True])
def test_bytes_go_through_as_they_came_both_ways_at_once(spliced, run_on_both):
    async def main():
        async with opened() as session:
            if spliced:
                splice(session.joined)
            up, down = traffic(60, masked=True), traffic(61, masked=False)
            session.client.send(up)
            session.upstream.send(down)
            assert await session.upstream.exactly(len(up)) == up
            assert await session.client.exactly(len(down)) == down

    run_on_both(main())


def test_the_upstreams_first_message_is_told_once_and_a_pong_is_none(run_on_both):
    async def main():
        async with opened() as session:
            session.upstream.send(frame(PONG, b""))
            await session.client.exactly(2)
            assert session.replies == []
            began_ms = time.monotonic() * 1000
            for word in ("first", "second"):
                session.upstream.say(word)
                await session.client.exactly(len(said(word, masked=False)))
            session.joined.time_replies()  # it is timed anew now and then
            session.upstream.say("third")
            await session.client.exactly(len(said("third", masked=False)))
            (replied_ms,) = session.replies
            assert began_ms <= replied_ms <= time.monotonic() * 1000

    run_on_both(main())


@pytest.mark.parametrize("spliced", [False, True])
@pytest.mark.parametrize("reader", ["client", "upstream"])
def test_a_slow_reader_holds_the_other_leg_and_memory_stays_bounded(reader, spliced, run_on_both):
    async def main():
        async with opened() as session:
            if spliced:
                splice(session.joined)
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


def stands(relay: Relay) -> type:
    """What has a relay's place on its transport, or the relay itself."""
    return type(relay.transport.get_protocol())


def test_long_messages_are_spliced_and_short_ones_are_not(run_on_both):
    async def main():
        async with opened() as session:
            relay = session.joined.client
            message = long(1, 60_000, masked=True)
            relay.data_received(message)  # as one chunk, which the kernel might have cut
            assert stands(relay) is Spliced
            assert await session.upstream.exactly(len(message)) == message
            for seed in range(4):
                message = long(seed, 300_000, masked=True)
                session.client.send(message)
                assert await session.upstream.exactly(len(message)) == message
            assert relay.walker.binary == 5
            assert relay.walker.payload_bytes == 60_000 + 4 * 300_000
            for _ in range(5):
                session.client.say("short")
                assert await session.upstream.exactly(11) == said("short")
            assert stands(relay) is Relay

    run_on_both(main())


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 13])
def test_a_header_cut_by_the_end_of_what_was_read_is_walked_before_anything_is_spliced(after, run_on_both):
    async def main():
        async with opened() as session:
            splice(session.joined)
            first = frame(BINARY, bytes(4096 - 8 - after), mask=MASK)  # one is read up to `after` of the next
            assert len(first) == 4096 - after
            wire = first + long(1, 100_000, masked=True) + said("last")
            session.client.send(wire)
            assert await session.upstream.exactly(len(wire)) == wire
            walker = session.joined.client.walker
            assert (walker.binary, walker.text, walker.rest) == (2, 1, 0)

    run_on_both(main())


def test_what_is_over_the_limit_is_not_spliced(run_on_both):
    async def main():
        async with opened(message_bytes=100_000) as session:
            splice(session.joined)
            begun = frame(BINARY, bytes(60_000), mask=MASK, fin=False)
            session.client.send(begun + frame(CONTINUATION, bytes(60_000), mask=MASK))
            assert await session.upstream.exactly(len(begun)) == begun
            assert (await session.client.exactly(4))[2:] == (1009).to_bytes(2, "big")
            assert not session.upstream.raw

    run_on_both(main())


def test_nothing_is_spliced_to_an_upstream_over_tls(run_on_both):
    async def main():
        async with opened(tls=True) as session:
            message = long(1, 300_000, masked=True)
            session.joined.client.data_received(message)
            assert stands(session.joined.client) is Relay
            session.client.send(message)
            assert await session.upstream.exactly(2 * len(message)) == message * 2

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
@pytest.mark.parametrize(
    "size", [4096, 100_000]
)  # 4096: all that is read; what is found behind it is the end
def test_an_upstream_lost_inside_a_frame_that_is_spliced(size, leave, run_on_both):
    async def main():
        async with opened() as session:
            splice(session.joined)
            session.joined.upstream.transport.pause_reading()
            torso = long(1, 200_000)[:size]
            session.upstream.send(torso)
            await eventually(lambda: not session.upstream.transport.get_write_buffer_size())
            leave(session.upstream)
            await session.upstream.gone()
            session.joined.upstream.transport.resume_reading()
            assert await session.client.end() == torso
            session.client.close()
            report = await session.report
            assert (report.ended_by, report.reason) == ("upstream", "eof" if leave is Peer.close else "reset")

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_client_that_is_gone_takes_nothing_of_what_is_spliced_to_it(leave, run_on_both):
    async def main():
        async with opened() as session:
            splice(session.joined)
            message = long(1, 1_000_000)
            session.upstream.send(message[:-1])
            await session.client.exactly(100_000)
            leave(session.client)
            session.upstream.send(message[-1:])
            session.upstream.close()
            assert (await session.report).ended_by == "client"

    run_on_both(main())


def test_a_gate_that_stops_lets_the_frame_pass_that_is_spliced_and_no_more(run_on_both):
    async def main():
        async with opened() as session:
            splice(session.joined)
            message = long(1, 200_000)
            session.upstream.send(message[:100_000])
            assert await session.client.exactly(100_000) == message[:100_000]
            session.joined.end("drain", 1012)
            session.upstream.send(message[100_000:], long(2, 200_000))
            rest = message[100_000:] + close_frame(1012)
            assert await session.client.exactly(len(rest)) == rest
            session.client.close()
            session.upstream.close()
            await session.client.end()
            assert (await session.report).upstream.binary_messages == 2
            assert not session.client.raw

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
