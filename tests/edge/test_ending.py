"""Open sessions end as staged as they began: departure, loss, keepalive, age, and the gate's own stop."""

from __future__ import annotations

import asyncio
import struct

import pytest

from proxy.core.frames import CLOSE, PONG, TEXT, close_frame, frame
from proxy.core.plan import Role
from proxy.edge import departing, joined
from tests.edge.peers import MASK, POLICY, Backend, Peer, Stand, eventually, request, said, standing

LONG = 30_000  # a quiet time that no test waits out
SLOW = f"departure: {{quiet_ms: {LONG}, max_ms: {LONG}, min_ms: 0, max_s: 60}}"


def with_policy(text: str) -> str:
    return POLICY.replace("departure: {quiet_ms: 5, min_ms: 5}\n", "") + text + "\n"


async def session(gate: Stand, backend: Backend, **options: bool) -> tuple[Peer, Peer]:
    """Open a session; return its two ends."""
    client = await gate.dial(request(), **options)
    upstream = await backend.accepted()
    await client.upgraded()
    client.say("hello")
    assert await upstream.message() == "hello"
    return client, upstream


def reported(gate: Stand) -> dict[str, object]:
    """The attributes of the one session that has ended."""
    (span,) = gate.spans("websocket.session")
    return {name.removeprefix("readygate."): value for name, value in span.attributes.items()}


# -- the client leaves -------------------------------------------------------------------------------------


def test_a_busy_upstream_hears_of_a_close_only_when_it_is_quiet_and_the_client_is_not_kept(
    run_on_both, tmp_path
):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, with_policy(SLOW)) as gate:
            client, upstream = await session(gate, backend)
            client.send(said("last words") + close_frame(4000, "bye", mask=MASK))
            assert await client.closed() == (4000, "bye")
            await client.end()
            assert await upstream.message() == "last words"
            upstream.say("a reply")
            upstream.say("that nobody hears")
            (left,) = gate.sessions
            await eventually(lambda: left.joined.upstream.walker.messages == 2)
            assert upstream.raw == b""  # not told yet
            left.joined._departing._departure.quiet_ms = 0
            left.joined._departing._look()
            assert await upstream.closed() == (4000, "bye")
            upstream.bye(4000)
            upstream.close()
            client.close()
            await gate.clean()
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == ("client", "closed")
            assert (told["departure.discarded_messages"], told["departure.discarded_bytes"]) == (2, 24)
            assert told["departure.quiet_ms"] > 0
            assert client.raw == b""

    run_on_both(main())


def test_an_upstream_is_told_by_itself_once_it_is_quiet(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 30, min_ms: 0, max_ms: 2000}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            client.bye(1000)
            await client.end()
            for number in range(5):
                upstream.say(str(number))
            assert await upstream.closed() == (1000, "")
            upstream.close()
            client.close()
            await gate.clean()
            assert reported(gate)["departure.discarded_messages"] == 5

    run_on_both(main())


def test_an_upstream_that_is_silent_because_it_is_busy_is_not_told_yet(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 30, min_ms: 0, max_ms: 2000}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            pings, upstream.pongs = upstream.pings, False
            client.bye(4000)
            await eventually(lambda: upstream.pings > pings)
            upstream.pongs = True
            upstream.say("a late reply")
            assert await upstream.closed() == (4000, "")
            assert upstream.pings == pings + 2  # its silence was put to the proof again
            upstream.close()
            await gate.clean(client)
            assert reported(gate)["departure.discarded_messages"] == 1

    run_on_both(main())


def test_an_upstream_that_has_said_its_close_is_asked_for_no_pong(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 30, min_ms: 0, max_ms: 2000, max_s: 60}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request(), pongs=False)  # so that the gate stays closed
            upstream = await backend.accepted()
            await client.upgraded()
            pings, upstream.pongs = upstream.pings, False
            upstream.bye(4401, "no")
            waiting = await gate.session()
            await eventually(lambda: waiting._handshake.close(Role.UPSTREAM))
            client.reset()
            await upstream.end()
            assert upstream.pings == pings
            await gate.clean(client)

    run_on_both(main())


def test_the_pong_of_another_ping_proves_nothing(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 30, min_ms: 0, max_ms: 2000, max_s: 60}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            (left,) = gate.sessions
            upstream.pongs = False
            earlier = left.joined.upstream.ping()
            client.bye(4000)
            await eventually(lambda: left.joined.ended_by)
            waiting, walker = left.joined._departing, left.joined.upstream.walker
            await eventually(lambda: waiting._proof)
            heard = walker.frames
            upstream.send(frame(PONG, earlier))
            await eventually(lambda: walker.frames > heard)
            assert waiting._departure._proved_ms is None
            upstream.send(frame(PONG, waiting._proof))
            assert await upstream.closed() == (4000, "")
            upstream.close()
            await gate.clean(client)

    run_on_both(main())


def test_a_session_that_was_quiet_departs_without_waiting(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, with_policy(SLOW)) as gate:
            client, upstream = await session(gate, backend)
            (open_session,) = gate.sessions
            for leg in (open_session.joined.client, open_session.joined.upstream):
                leg.said_s -= LONG
            client.bye(1001)
            assert await upstream.closed() == (1001, "")
            assert await client.closed() == (1001, "")
            upstream.close()
            client.close()
            await gate.clean()
            assert reported(gate)["departure.quiet_ms"] < LONG

    run_on_both(main())


def test_departure_can_be_switched_off_and_the_upstream_is_told_at_once(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {enabled: false, quiet_ms: 5000}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            client.bye(1000)
            assert await upstream.closed() == (1000, "")
            assert await client.closed() == (1000, "")
            upstream.close()
            await gate.clean(client)

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_client_that_vanishes_is_followed_by_the_same_end_when_the_upstream_is_quiet(
    leave, run_on_both, tmp_path
):
    async def main():
        policy = with_policy("departure: {quiet_ms: 20, min_ms: 0}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            client.say("last words")
            if leave is Peer.reset:
                assert await upstream.message() == "last words"
            (left,) = gate.sessions
            leave(client)
            if leave is Peer.close:
                assert await upstream.message() == "last words"
            await eventually(lambda: left.joined.ended_by)
            upstream.say("nobody hears this")
            await upstream.end()
            assert upstream.raw == b""  # no Close of ours
            reset = isinstance(upstream.error, ConnectionResetError)
            upstream.close()
            await gate.clean()
            told = reported(gate)
            assert told["end_reason"] == ("reset" if leave is Peer.reset else "eof")
            assert told["departure.discarded_messages"] == 1
            if leave is Peer.reset:
                assert reset

    run_on_both(main())


def test_a_client_that_resets_while_we_write_to_it_has_still_said_what_it_said(run_on_both, tmp_path):
    """The write fails, and the loop ends the transport without reading what the kernel still has."""

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            (open_session,) = gate.sessions
            leg = open_session.joined.client
            leg.transport.pause_reading()
            client.say("last words")
            await eventually(lambda: client.transport.get_write_buffer_size() == 0)
            client.reset()
            await client.gone()
            for _ in range(2):
                leg.transport.write(said("a push", masked=False))
            assert await upstream.message() == "last words"
            await gate.clean()

    run_on_both(main())


def test_an_upstream_in_the_middle_of_a_frame_finishes_it_before_the_clients_close_is_answered(
    run_on_both, tmp_path
):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            whole = frame(TEXT, b"x" * 1000)
            upstream.send(whole[:500])
            (left,) = gate.sessions
            await eventually(lambda: left.joined.upstream.walker.payload_bytes)
            client.bye(1000)
            await eventually(lambda: left.joined.ended_by)
            upstream.send(whole[500:] + said("not this one", masked=False))
            assert await client.frame() == (0x80 | TEXT, b"x" * 1000)
            assert await client.closed() == (1000, "")
            await client.end()
            assert await upstream.closed() == (1000, "")
            upstream.close()
            client.close()
            await gate.clean()
            assert reported(gate)["departure.discarded_messages"] == 1

    run_on_both(main())


@pytest.mark.parametrize("cut", [1, 3, 9])
def test_a_frame_whose_header_is_cut_is_finished_too_byte_by_byte(cut, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            whole = frame(TEXT, b"y" * 70_000)  # ten bytes of header
            upstream.send(whole[:cut])
            (left,) = gate.sessions
            await eventually(lambda: left.joined.upstream.walker.rest)
            client.bye(1000)
            await eventually(lambda: left.joined.ended_by)
            for at in range(cut, 12):
                upstream.send(whole[at : at + 1])
            upstream.send(whole[12:])
            assert await client.frame() == (0x80 | TEXT, b"y" * 70_000)
            assert await client.closed() == (1000, "")
            upstream.close()
            await gate.clean(client)

    run_on_both(main())


def test_a_close_while_the_upstream_stays_inside_a_frame_is_not_waited_for_for_ever(
    run_on_both, tmp_path, monkeypatch
):
    monkeypatch.setattr(joined, "_LINGER_S", 0.05)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            upstream.send(frame(TEXT, b"x" * 1000)[:500])
            (left,) = gate.sessions
            await eventually(lambda: left.joined.upstream.walker.payload_bytes)
            client.bye(1000)
            await client.end()
            assert await upstream.closed() == (1000, "")
            upstream.close()
            await gate.clean()

    run_on_both(main())


def test_what_an_upstream_says_to_nobody_is_read_whatever_it_is_and_does_not_pile_up(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 100, min_ms: 0}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            client.transport.pause_reading()
            flood = frame(TEXT, b"z" * 60_000)
            while upstream.transport.get_write_buffer_size() < 1 << 20:  # until nobody takes it any more
                upstream.send(flood)
                await asyncio.sleep(0)
            (left,) = gate.sessions
            held = left.joined.client.transport
            client.reset()
            await eventually(lambda: left.joined.ended_by)
            upstream.say("to nobody")
            await eventually(lambda: upstream.transport.get_write_buffer_size() == 0)
            assert held.get_write_buffer_size() < 1 << 20
            await upstream.end()
            upstream.close()
            await gate.clean()
            assert reported(gate)["departure.discarded_messages"] > 0

    run_on_both(main())


def test_an_upstream_that_closes_while_it_departs_is_answered_with_its_own_code(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, with_policy(SLOW)) as gate:
            client, upstream = await session(gate, backend)
            client.bye(1000)
            await client.end()
            upstream.bye(1011, "no")
            assert await upstream.closed() == (1011, "no")
            await upstream.end()
            upstream.close()
            client.close()
            await gate.clean()
            assert reported(gate)["close.upstream.code"] == 1011

    run_on_both(main())


def test_an_upstream_that_is_told_and_never_answers_is_cut(run_on_both, tmp_path, monkeypatch):
    monkeypatch.setattr(departing, "_CLOSING_S", 0.05)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            client.bye(1000)
            assert await upstream.closed() == (1000, "")
            await upstream.end()
            await gate.clean(client)

    run_on_both(main())


def test_a_route_learns_how_long_its_replies_take(run, tmp_path):
    async def main():
        async with (
            Backend.listening() as backend,
            standing(tmp_path, backend, with_policy("departure: {quiet_ms: 40}")) as gate,
        ):
            client, upstream = await session(gate, backend)
            quiet = gate.gate._shared.quiet(next(iter(gate.sessions)).route)
            assert quiet.quiet_ms == 40
            for _ in range(3):
                client.say("question")
                await upstream.message()
                upstream.say("answer")
                await client.message()
            assert len(quiet._pauses) >= 3
            assert max(quiet._pauses) < 15_000
            await gate.clean(client)

    run(main())


def test_a_close_and_a_pong_are_no_replies_from_which_a_route_would_learn(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, POLICY) as gate:
            client, upstream = await session(gate, backend)
            quiet = gate.gate._shared.quiet(next(iter(gate.sessions)).route)
            client.send(frame(0x9, b"ping", mask=MASK))
            assert await client.frame() == (0x8A, b"ping")
            client.bye(1000)
            assert await upstream.closed() == (1000, "")
            upstream.bye(1000)
            upstream.close()
            await gate.clean(client)
            assert not quiet._pauses

    run(main())


# -- the gate ends it --------------------------------------------------------------------------------------


def test_a_drain_tells_both_and_delivers_what_the_client_says_until_its_own_close(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            stopping = asyncio.ensure_future(gate.gate.stop())
            assert await client.closed() == (1012, "")
            client.say("one more thing")
            client.bye(1012)
            assert await upstream.message() == "one more thing"
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            upstream.close()
            await client.end()
            client.close()
            await stopping
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == ("gate", "drain")
            assert (told["close.client.code"], told["close.upstream.code"]) == (1012, 1001)

    run_on_both(main())


def test_a_drain_puts_its_close_where_a_frame_ends(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            whole = frame(TEXT, b"x" * 1000)
            upstream.send(whole[:500])
            (left,) = gate.sessions
            await eventually(lambda: left.joined.upstream.walker.payload_bytes)
            stopping = asyncio.ensure_future(gate.gate.stop())
            await eventually(lambda: left.joined.ended_by)
            upstream.send(whole[500:])
            assert await client.frame() == (0x80 | TEXT, b"x" * 1000)
            assert await client.closed() == (1012, "")
            client.bye(1012)
            assert await upstream.closed() == (1001, "")
            upstream.close()
            await client.end()
            client.close()
            await stopping

    run_on_both(main())


def test_a_client_that_takes_nothing_does_not_keep_a_drain_from_its_end(run_on_both, tmp_path):
    async def main():
        policy = with_policy("departure: {quiet_ms: 5, min_ms: 5}").replace(
            "spread_s: 0", "spread_s: 0, grace_s: 2"
        )
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            client.transport.pause_reading()
            while upstream.transport.get_write_buffer_size() < 1 << 20:
                upstream.send(frame(TEXT, b"z" * 60_000))
                await asyncio.sleep(0)
            await gate.gate.stop()
            assert not gate.sessions

    run_on_both(main())


def test_an_upstream_that_is_not_quiet_yet_is_told_before_the_grace_ends(run_on_both, tmp_path):
    async def main():
        policy = with_policy(SLOW).replace("spread_s: 0", "spread_s: 0, grace_s: 2")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend)
            stopping = asyncio.ensure_future(gate.gate.stop())
            assert await client.closed() == (1012, "")
            client.bye(1012)
            assert await upstream.closed() == (1001, "")
            upstream.close()
            await stopping

    run_on_both(main())


def test_sessions_are_drained_one_after_the_other_over_the_time_given(run, tmp_path):
    async def main():
        policy = POLICY.replace("spread_s: 0", "spread_s: 0.3")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            pairs = [await session(gate, backend) for _ in range(10)]
            loop, closed_s = asyncio.get_running_loop(), []

            async def until_closed(client: Peer, upstream: Peer) -> None:
                assert await client.closed() == (1012, "")
                closed_s.append(loop.time())
                client.bye(1012)
                await upstream.closed()
                upstream.close()
                await client.end()
                client.close()

            began_s = loop.time()
            leaving = [asyncio.ensure_future(until_closed(*pair)) for pair in pairs]
            await gate.gate.stop()
            await asyncio.gather(*leaving)
            # each in a thirty-millisecond share of its own; timers are late at times, never early
            for number, moment_s in enumerate(sorted(closed_s)):
                assert moment_s - began_s >= number * 0.03 - 0.002

    run(main())


@pytest.mark.parametrize("what", ["session: {max_s: 0.2, jitter: 0}", "limits: {idle_s: 0.2}"])
def test_a_session_that_is_old_or_idle_enough_is_ended_like_in_a_drain(what, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, POLICY + what + "\n") as gate:
            client, upstream = await session(gate, backend)
            assert await client.closed() == ((1012, "") if "max_s" in what else (1001, ""))
            client.bye(1000)
            assert await upstream.closed() == (1001, "")
            upstream.close()
            await client.end()
            client.close()
            await gate.clean()
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == (
                "gate",
                "max_age" if "max_s" in what else "idle",
            )

    run_on_both(main())


# -- keepalive ---------------------------------------------------------------------------------------------

ALIVE = (
    POLICY
    + "keepalive: {client: {interval_s: 0.1, timeout_s: 0.3}, upstream: {interval_s: 0.1, timeout_s: 0.3}}\n"
)


def test_silent_legs_are_pinged_and_our_pongs_go_no_further(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, ALIVE) as gate:
            client, upstream = await session(gate, backend)
            before = client.pings, upstream.pings
            await eventually(lambda: client.pings > before[0] + 4 and upstream.pings > before[1] + 4)
            upstream.say("still there")
            assert await client.message() == "still there"  # and nothing came before it
            client.say("so am I")
            assert await upstream.message() == "so am I"
            await gate.clean(client)

    run_on_both(main())


def test_the_endpoints_own_pings_and_pongs_still_pass(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, ALIVE) as gate:
            client, upstream = await session(gate, backend, pongs=False)
            upstream.pongs = False
            client.send(frame(0xA, b"unasked", mask=MASK))
            assert await upstream.frame() == (0x8A, b"unasked")
            pings = upstream.pings
            client.send(frame(0x9, b"are you there", mask=MASK))
            await eventually(lambda: upstream.pings > pings)
            upstream.pongs = True  # its silence is put to the proof at the end
            await gate.clean(client)

    run_on_both(main())


def test_a_silent_client_that_answers_no_more_is_let_go_and_its_upstream_departs(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, ALIVE) as gate:
            client, upstream = await session(gate, backend)
            await eventually(lambda: client.pings > 2)  # it has answered some
            client.pongs = False
            await upstream.end()
            await client.end()
            upstream.close()
            await gate.clean()
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == ("client", "keepalive")

    run_on_both(main())


def test_a_silent_upstream_that_answers_no_more_is_let_go_and_its_client_is_told(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, ALIVE) as gate:
            client, upstream = await session(gate, backend)
            await eventually(lambda: upstream.pings > 2)
            upstream.pongs = False
            assert await client.closed() == (1014, "")
            client.bye(1014)
            await client.end()
            client.close()
            await upstream.end()
            await gate.clean()
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == ("upstream", "keepalive")

    run_on_both(main())


def test_a_peer_that_has_never_answered_a_ping_is_kept(run, tmp_path):
    async def main():
        policy = ALIVE.replace("validation: {budget_ms: 5000}", "validation: {budget_ms: 1}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await session(gate, backend, pongs=False)
            await eventually(lambda: client.pings > 8)  # far beyond the timeout
            upstream.say("served")
            assert await client.message() == "served"
            await gate.clean(client)

    run(main())


# -- the upstream ends it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_client_has_time_to_answer_when_its_upstream_was_lost(leave, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            leave(upstream)
            assert await client.closed() == (1014, "")
            client.say("too late")
            client.bye(1014)
            await client.end()
            assert client.error is None  # no reset: it has heard all that there was
            client.close()
            await gate.clean()
            told = reported(gate)
            assert (told["ended_by"], told["end_reason"]) == (
                "upstream",
                "eof" if leave is Peer.close else "reset",
            )

    run_on_both(main())


def test_an_upstreams_close_and_the_clients_answer_pass_as_they_are(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await session(gate, backend)
            upstream.bye(4321, "done with you")
            assert await client.closed() == (4321, "done with you")
            client.send(frame(CLOSE, struct.pack("!H", 4321) + b"fine", mask=b"abcd"))
            assert await upstream.closed() == (4321, "fine")
            upstream.close()
            await client.end()
            client.close()
            await gate.clean()
            assert reported(gate)["ended_by"] == "upstream"

    run_on_both(main())
