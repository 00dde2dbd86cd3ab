"""What one open session may do: how long its messages are, how many a second, how long it is idle."""

from __future__ import annotations

import time

import pytest

from proxy.core.frames import CONTINUATION, PING, PONG, TEXT, close_frame, frame
from proxy.core.plan import Role
from proxy.edge import departing, joined
from proxy.edge.relay import Hold
from tests.edge.door import opened
from tests.edge.peers import MASK, POLICY, Backend, Peer, Stand, eventually, request, said, standing

LIMIT = 1024
WITH_LIMIT = f"{POLICY}limits: {{message_bytes: {LIMIT}}}\n"
MOST, TOO_MUCH = "m" * LIMIT, "b" * (LIMIT + 1)
BIG = (1009, "message too big")


@pytest.fixture(autouse=True)
def _nobody_lingers(monkeypatch):
    """What ends only because somebody lost patience hangs."""
    monkeypatch.setattr(joined, "_LINGER_S", 3600.0)
    monkeypatch.setattr(departing, "_CLOSING_S", 3600.0)


async def over(gate: Stand, reason: str, *codes: int | None) -> None:
    """Both legs end, and that is told so: the reason, the close codes of client and upstream."""
    await gate.gate._shared.idle()
    (span,) = gate.spans("websocket.session")
    told = span.attributes
    assert (told["readygate.ended_by"], told["readygate.end_reason"]) == ("gate", reason)
    named = ("readygate.close.client.code", "readygate.close.upstream.code")
    assert tuple(map(told.get, named)) == codes
    assert "error.type" not in told


async def client_was_refused(client: Peer, upstream: Peer, rest: bytes = b"") -> None:
    """The client hears why, says the rest of its frame, and closes; the upstream hears that it is over."""
    assert await client.closed() == BIG
    client.send(rest, close_frame(1009, mask=MASK))
    assert await client.end() == b""
    client.close()
    assert await upstream.closed() == (1001, "")
    upstream.bye(1001)
    assert await upstream.end() == b""
    upstream.close()


async def upstream_was_refused(client: Peer, upstream: Peer) -> None:
    assert await upstream.closed() == BIG
    upstream.bye(1009)
    assert await upstream.end() == b""
    upstream.close()
    assert await client.closed() == (1014, "")
    client.bye(1014)
    assert await client.end() == b""
    client.close()


# -- message_bytes: what the client says ------------------------------------------------------------------


def test_a_message_over_the_limit_goes_no_further_and_its_sender_hears_1009(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            client.send(said("before"), said(TOO_MUCH), said("behind"))
            assert await upstream.message() == "before"
            await client_was_refused(client, upstream)
            await over(gate, "too_big", 1009, 1001)

    run_on_both(main())


def test_fragments_count_together_and_the_one_that_is_too_much_goes_no_further(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            part = b"p" * 600
            client.send(frame(TEXT, part, mask=MASK, fin=False), frame(PING, b"between", mask=MASK))
            assert await upstream.frame() == (TEXT, part)
            assert await client.frame() == (0x80 | PONG, b"between")
            client.send(frame(CONTINUATION, part[:425], mask=MASK))
            await client_was_refused(client, upstream)
            await over(gate, "too_big", 1009, 1001)

    run(main())


def test_a_message_at_the_limit_passes_whole_or_in_fragments_and_so_do_all_that_follow(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            parts = [
                frame(TEXT, b"p" * 500, mask=MASK, fin=False),
                frame(PING, b"does not count", mask=MASK),
                frame(CONTINUATION, b"q" * 524, mask=MASK),
            ]
            for _ in range(3):
                client.send(said(MOST), *parts)
                assert await upstream.message() == MOST
                assert await upstream.frame() == (TEXT, b"p" * 500)
                assert await upstream.frame() == (0x80 | CONTINUATION, b"q" * 524)
                upstream.say(MOST)
                assert await client.frame() == (0x80 | PONG, b"does not count")
                assert await client.message() == MOST
            await gate.clean(client)

    run_on_both(main())


async def byte_by_byte(gate: Stand, client: Peer, head: bytes) -> None:
    """Let the gate read a frame's header in pieces of one byte."""
    walker = (await gate.session()).joined.client.walker
    client.pongs = False  # which would come in between
    for at, byte in enumerate(head, 1):
        client.send(bytes([byte]))
        await eventually(lambda at=at: len(walker._head) == at % len(head))


@pytest.mark.parametrize("size", [5, LIMIT, 70_000])
def test_a_header_that_comes_byte_by_byte_is_passed_on_once_it_is_clear_that_it_may_be(size, run, tmp_path):
    async def main():
        policy = f"{POLICY}limits: {{message_bytes: {max(size, LIMIT)}}}\n"
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await opened(gate, backend)
            wire = said("x" * size)
            await byte_by_byte(gate, client, wire[:-size])
            client.send(wire[-size:])
            assert await upstream.message() == "x" * size
            await gate.clean(client)

    run(main())


@pytest.mark.parametrize("size", [LIMIT + 1, 70_000])
def test_of_a_header_that_comes_byte_by_byte_nothing_goes_further_if_it_is_too_much(size, run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            wire = said("x" * size)
            await byte_by_byte(gate, client, wire[:-size])
            await client_was_refused(client, upstream, rest=wire[-size:])
            await over(gate, "too_big", 1009, 1001)

    run(main())


def test_a_close_in_the_segment_of_a_message_over_the_limit_is_honoured_at_once(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            client.send(said(TOO_MUCH), close_frame(1000, mask=MASK))
            assert await client.closed() == BIG
            assert await client.end() == b""
            client.close()
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            assert await upstream.end() == b""
            upstream.close()
            await over(gate, "too_big", 1000, 1001)

    run_on_both(main())


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_of_its_message_over_the_limit_is_let_go(leave, run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            client.send(said("x" * 70_000)[:5000])
            assert await client.closed() == BIG
            getattr(client, leave)()
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            assert await upstream.end() == b""
            upstream.close()
            await over(gate, "too_big", 1009, 1001)

    run(main())


def test_a_client_whose_message_is_too_much_before_the_gate_opens_is_heard_up_to_it(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client = await gate.dial(request() + said("before") + said("x" * 10_000)[:5000])
            upstream, head = await backend.requested()
            client.send(said("x" * 10_000)[5000:], said("behind"))
            upstream.accept(head)
            await client.upgraded()
            assert await upstream.message() == "before"
            await client_was_refused(client, upstream)
            await over(gate, "too_big", 1009, 1001)

    run_on_both(main())


def test_an_upstream_that_has_closed_hears_the_answer_behind_a_message_over_the_limit(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            upstream.bye(1000, "done")
            assert await client.closed() == (1000, "done")
            client.send(said(TOO_MUCH), close_frame(1000, "done", mask=MASK))
            assert await upstream.closed() == (1000, "done")
            upstream.close()
            assert await client.end() == b""
            client.close()
            await gate.clean()

    run(main())


# -- message_bytes: what the upstream says ----------------------------------------------------------------


def test_a_message_of_the_upstream_over_the_limit_ends_it_with_1009_and_the_client_with_1014(
    run_on_both, tmp_path
):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            upstream.send(*(said(text, masked=False) for text in ("before", TOO_MUCH, "behind")))
            assert await client.message() == "before"
            await upstream_was_refused(client, upstream)
            await over(gate, "too_big", 1014, 1009)

    run_on_both(main())


def test_fragments_of_the_upstream_count_together_too(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            upstream.send(frame(TEXT, b"p" * 600, fin=False))
            assert await client.frame() == (TEXT, b"p" * 600)
            upstream.send(frame(CONTINUATION, b"q" * 425))
            await upstream_was_refused(client, upstream)
            await over(gate, "too_big", 1014, 1009)

    run(main())


def test_an_upstream_that_closes_behind_its_message_over_the_limit_is_let_go_at_once(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client, upstream = await opened(gate, backend)
            upstream.send(said(TOO_MUCH, masked=False), close_frame(1000))
            assert await upstream.closed() == BIG
            assert await upstream.end() == b""
            upstream.close()
            assert await client.closed() == (1014, "")
            client.bye(1014)
            assert await client.end() == b""
            client.close()
            await over(gate, "too_big", 1014, 1000)

    run_on_both(main())


def test_a_push_over_the_limit_before_the_gate_opens_is_not_held_and_not_passed_on(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client = await gate.dial(request())
            early = said("before", masked=False) + said("x" * 100_000, masked=False)
            upstream = await backend.accepted(early=early)
            await eventually(lambda: gate.gate._shared.early.bytes)
            assert gate.gate._shared.early.bytes == len(said("before", masked=False))
            await client.upgraded()
            assert await client.message() == "before"
            await upstream_was_refused(client, upstream)
            await over(gate, "too_big", 1014, 1009)

    run_on_both(main())


def test_an_upstream_that_says_too_much_and_closes_before_the_gate_opens_leaves_nobody_waiting(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, WITH_LIMIT) as gate:
            client = await gate.dial(request())
            early = said("before", masked=False) + said(TOO_MUCH, masked=False) + close_frame(4000, "bye")
            upstream = await backend.accepted(early=early)
            await client.upgraded()
            assert await client.message() == "before"
            code, _ = await client.closed()
            assert code in {4000, 1014}
            client.bye(code)
            await upstream.end()
            upstream.close()
            assert await client.end() == b""
            client.close()
            await gate.clean()

    run(main())


# -- messages_per_s ---------------------------------------------------------------------------------------


def paced(per_s: float) -> str:
    return f"{POLICY}limits: {{messages_per_s: {per_s}}}\n"


def test_a_flood_is_delivered_whole_and_in_order_but_no_faster_than_it_may_be(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, paced(400)) as gate:
            client, upstream = await opened(gate, backend)
            leg = (await gate.session()).joined.client
            started_s = time.monotonic()
            client.send(*(said(str(number)) for number in range(600)))
            assert [await upstream.message() for _ in range(600)] == [str(number) for number in range(600)]
            assert leg.holds == Hold.PACE  # what 401 said at once costs is paid for now
            assert not leg.transport.is_reading()
            client.say("last")
            assert await upstream.message() == "last"
            assert time.monotonic() - started_s >= 0.4  # of the 0.5 s that 600 cost beyond the first second
            await gate.clean(client)

    run_on_both(main())


def test_up_to_a_second_of_messages_at_once_waits_for_nothing(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, paced(400)) as gate:
            client, upstream = await opened(gate, backend)
            leg = (await gate.session()).joined.client
            client.send(*(said(str(number)) for number in range(390)))
            assert [await upstream.message() for _ in range(390)] == [str(number) for number in range(390)]
            assert leg.holds == 0
            await gate.clean(client)

    run(main())


def test_a_client_that_is_held_still_hears_its_upstream(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, paced(0.1)) as gate:
            client, upstream = await opened(gate, backend)
            client.send(said("1"), said("2"))
            assert [await upstream.message(), await upstream.message()] == ["1", "2"]
            assert (await gate.session()).joined.client.holds == Hold.PACE
            upstream.say("are you there?")
            assert await client.message() == "are you there?"
            await gate.clean(upstream, client)

    run(main())


async def held(gate: Stand, backend: Backend) -> tuple[Peer, Peer]:
    """A session whose client will not be read for a minute."""
    client, upstream = await opened(gate, backend)
    client.send(*(said("flood") for _ in range(7)))
    for _ in range(7):
        assert await upstream.message() == "flood"
    assert (await gate.session()).joined.client.holds == Hold.PACE
    return client, upstream


def test_a_client_that_is_held_is_no_obstacle_to_the_end_of_its_session(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, paced(0.1)) as gate:
            client, upstream = await held(gate, backend)
            (await gate.session()).drain()
            assert (await client.closed())[0] == 1012
            client.bye(1012)
            assert await client.end() == b""
            client.close()
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            upstream.close()
            await over(gate, "drain", 1012, 1001)

    run_on_both(main())


def test_a_flood_whose_last_message_is_too_big_does_not_have_to_wait_to_say_goodbye(run_on_both, tmp_path):
    async def main():
        policy = f"{POLICY}limits: {{messages_per_s: 0.1, message_bytes: {LIMIT}}}\n"
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await opened(gate, backend)
            client.send(said("flood") * 7, said(TOO_MUCH))
            assert [await upstream.message() for _ in range(7)] == ["flood"] * 7
            await client_was_refused(client, upstream)
            await over(gate, "too_big", 1009, 1001)

    run_on_both(main())


@pytest.mark.parametrize("how", ["bye", "reset", "close"])
def test_a_client_that_is_held_is_no_obstacle_when_its_upstream_ends(how, run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, paced(0.1)) as gate:
            client, upstream = await held(gate, backend)
            code = 1000 if how == "bye" else 1014
            if how == "bye":
                upstream.bye(code)
            else:
                getattr(upstream, how)()
            assert (await client.closed())[0] == code
            client.bye(code)
            if how == "bye":
                assert await upstream.closed() == (code, "")
                upstream.close()
            await client.end()
            client.close()
            await gate.clean()

    run(main())


# -- idle_s -----------------------------------------------------------------------------------------------


def test_a_session_in_which_nobody_says_anything_is_closed_on_both_legs(run_on_both, tmp_path):
    async def main():
        policy = POLICY + "limits: {idle_s: 0.1}\n"
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await opened(gate, backend)
            since_s = time.monotonic()
            assert await client.closed() == (1001, "")
            assert time.monotonic() - since_s >= 0.08
            client.bye(1001)
            assert await client.end() == b""
            client.close()
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            upstream.close()
            await over(gate, "idle", 1001, 1001)

    run_on_both(main())


@pytest.mark.parametrize("role", Role)
def test_the_endpoints_pings_keep_a_session(role, run, tmp_path):
    async def main():
        policy = POLICY + "limits: {idle_s: 0.2}\n"
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await opened(gate, backend)
            asks = client if role is Role.CLIENT else upstream
            until_s = time.monotonic() + 0.6
            while time.monotonic() < until_s:
                asks.send(frame(PING, b"theirs", mask=MASK if asks.masks else None))
                assert await asks.frame() == (0x80 | PONG, b"theirs")
            assert await client.closed() == (1001, "")  # now that they have stopped
            await gate.clean(client, upstream)

    run(main())


def test_our_own_pings_and_their_pongs_keep_nobody(run, tmp_path):
    async def main():
        often = "{interval_s: 0.05, timeout_s: 10}"
        policy = f"{POLICY}limits: {{idle_s: 0.3}}\nkeepalive: {{client: {often}, upstream: {often}}}\n"
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client, upstream = await opened(gate, backend)
            before = client.pings, upstream.pings
            assert await client.closed() == (1001, "")
            assert client.pings >= before[0] + 2
            assert upstream.pings >= before[1] + 2
            await gate.clean(client, upstream)

    run(main())
