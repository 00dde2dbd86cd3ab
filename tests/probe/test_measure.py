from __future__ import annotations

import asyncio

import pytest

from proxy.core.frames import PING, TEXT, close_frame, frame
from proxy.probe.cases import CASES, Expect
from proxy.probe.client import Manner, Observation
from proxy.probe.measure import Effort, Measurement, Spread, UnreachableError, measure, summarise
from proxy.probe.target import parse_target
from tests.backends import launch
from tests.probe.scripted import Peer, Script, serve

QUICK = Effort(connections=6, at_once=3)
MANNER = Manner(b"hello", answer_timeout_s=0.2)
PATIENT = Manner(b"hello", answer_timeout_s=10)


def rows(found: Measurement) -> dict[str, tuple[int, int | None, int | None]]:
    return {one.case.name: (one.opened, one.answered, one.lost) for one in found.results}


async def probe(script: Script, manner: Manner = MANNER, effort: Effort = QUICK) -> Measurement:
    async with serve(script) as server:
        return await measure(server.target, manner, effort)


async def echo(peer: Peer) -> None:
    peer.upgrade()
    data = peer.early
    while True:
        while len(data) >= 6 and len(data) >= 6 + (data[1] & 0x7F):
            size = data[1] & 0x7F
            if data[0] & 0x0F == 8:
                peer.writer.write(close_frame(1000))
                await peer.until_gone()
                return
            peer.writer.write(frame(TEXT, b"hello"))
            data = data[6 + size :]
        if not (chunk := await peer.reader.read(65536)):
            return
        data += chunk


def test_uvicorn_loses_every_early_frame_and_answers_all_others(run) -> None:
    with launch.uvicorn() as backend:
        target = parse_target(f"ws://127.0.0.1:{backend.port}/ws/echo")
        found = rows(run(measure(target, Manner(b"hello", answer_timeout_s=1), QUICK)))
    assert found.pop("early_frame") == (6, 0, 6)
    assert found.pop("send_and_leave")[0] == 6
    assert set(found.values()) == {(6, 6, 0)}


def test_uvicorn_refuses_an_unknown_path_with_403(run) -> None:
    with launch.uvicorn() as backend:
        found = run(measure(parse_target(f"ws://127.0.0.1:{backend.port}/nope"), MANNER, QUICK))
    assert [one.refused for one in found.results] == [{"403": 6}] * 5
    assert any("no quiet connection" in note for note in found.notes)


def test_a_server_that_keeps_early_frames_loses_none(run) -> None:
    found = run(probe(echo, PATIENT))
    table = rows(found)
    assert table.pop("send_and_leave")[0] == 6
    assert set(table.values()) == {(6, 6, 0)}
    assert all(one.closed == {"1000": 6} for one in found.results)
    assert found.complete
    assert found.notes == ()


def test_a_server_that_falls_over_after_its_101_is_counted_by_code(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(close_frame(1011))
        await peer.until_gone()

    found = run(probe(script, PATIENT))
    assert [one.closed for one in found.results] == [{"1011": 6}] * 5
    assert rows(found)["frame_at_once"] == (6, 0, 6)
    assert any("nothing was answered" in note for note in found.notes)


def test_messages_that_come_unasked_do_not_count_and_are_noted(run) -> None:
    async def greet(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(frame(TEXT, b"one") + frame(PING) + frame(TEXT, b"two"))
        await peer.until_close()

    found = run(probe(greet, MANNER, Effort(2, 2)))
    assert found.manner.unasked == 2
    assert rows(found)["frame_at_once"] == (2, 0, 2)
    assert any("sends 2 message(s) unasked" in note for note in found.notes)


def test_without_an_expected_answer_nothing_counts_as_lost(run) -> None:
    async def silent(peer: Peer) -> None:
        peer.upgrade()
        await peer.reader.read(65536)
        peer.writer.write(close_frame(1000))
        await peer.until_gone()

    found = run(probe(silent, Manner(b"hello", Expect.NONE, answer_timeout_s=10)))
    assert set(rows(found).values()) == {(6, None, None)}
    assert any("no answers were expected" in note for note in found.notes)


def test_never_more_connections_are_open_than_asked_for(run) -> None:
    async def counted() -> int:
        async with serve(echo) as server:
            await measure(server.target, PATIENT, Effort(connections=20, at_once=4))
            return server.most

    # the server sees the end of one a little after the client begins the next
    assert 4 <= run(counted()) <= 8


def test_the_limit_ends_it_and_says_so(run) -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_gone()

    async def calibrated() -> Script:
        first = asyncio.Event()

        async def script(peer: Peer) -> None:
            await (silent(peer) if first.is_set() else echo(peer))
            first.set()

        return script

    async def limited() -> Measurement:
        return await probe(await calibrated(), PATIENT, Effort(6, 3, limit_s=0.7))

    found = run(limited())
    assert not found.complete
    assert [one.tried for one in found.results] == [0] * 5
    assert any("stopped after 0.7 s" in note for note in found.notes)


def test_an_endpoint_where_nobody_listens_is_unreachable(run) -> None:
    async def gone() -> None:
        async with serve(echo) as server:
            pass
        await measure(server.target, MANNER, QUICK)

    with pytest.raises(UnreachableError, match="connection refused"):
        run(gone())


def test_percentiles_are_nearest_rank() -> None:
    assert Spread.of([]) == Spread(None, None)
    assert Spread.of([7.0]) == Spread(7.0, 7.0)
    assert Spread.of(range(100, 0, -1)) == Spread(50, 99)
    assert Spread.of([1.0, 2.0]) == Spread(1.0, 2.0)


def test_every_connection_is_counted_once() -> None:
    seen = [
        Observation(open_ms=1.0, answer_ms=2.0, messages=1, close_code=1000),
        Observation(open_ms=3.0, close_code=None),
        Observation(status=503),
        Observation(reached=False, failure="connection refused"),
    ]
    result = summarise(CASES[1], seen, Expect.ANY)
    assert (result.tried, result.opened, result.answered, result.lost) == (4, 2, 1, 1)
    assert result.closed == {"1000": 1, "open": 1}
    assert (result.refused, result.failed) == ({"503": 1}, {"connection refused": 1})
    assert result.open_ms == Spread(1.0, 3.0)
