from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.core.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameWalker, close_frame, frame
from proxy.probe.cases import CASES, QUIET, Case, Expect
from proxy.probe.client import Manner, Observation, converse
from tests.probe.scripted import Peer, Script, serve

EARLY, AT_ONCE, SLOW, STORM, LEAVE = CASES
MANNER = Manner(b"hello", answer_timeout_s=0.2)
PATIENT = Manner(b"hello", answer_timeout_s=20)


async def talk(script: Script, case: Case = AT_ONCE, manner: Manner = PATIENT) -> Observation:
    async with serve(script) as server:
        return await converse(server.target, case, manner)


async def echo(peer: Peer) -> None:
    peer.upgrade()
    await peer.reader.readexactly(6 + 5)
    peer.writer.write(frame(TEXT, b"hello"))
    await peer.reader.readexactly(6 + 2)
    peer.writer.write(close_frame(1000))
    await peer.until_gone()


def test_a_healthy_server_is_opened_answered_and_closed(run) -> None:
    seen = run(talk(echo))
    assert seen.open_ms is not None
    assert seen.answer_ms is not None
    assert (seen.messages, seen.close_code, seen.failure) == (1, 1000, None)


def test_the_early_frame_comes_in_the_segment_of_the_upgrade(run) -> None:
    early: list[bytes] = []

    async def script(peer: Peer) -> None:
        early.append(peer.early)
        peer.upgrade()
        peer.writer.write(frame(TEXT, b"yes") + close_frame(1000))
        await peer.until_gone()

    seen = run(talk(script, EARLY))
    (words,) = early
    walker = FrameWalker()
    walker.feed(words)
    assert walker.text == 1
    assert words[1] & 0x80, "a client masks its frames"
    assert seen.answer_ms is not None


def test_keys_and_masks_are_never_the_same_twice(run) -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(peer.request)
        asked.append(peer.early[2:6])
        peer.upgrade()
        peer.writer.write(close_frame(1000))
        await peer.until_gone()

    async def twice() -> None:
        async with serve(script) as server:
            for _ in range(2):
                await converse(server.target, EARLY, PATIENT)

    run(twice())
    assert len(set(asked)) == 4


@pytest.mark.parametrize(
    ("answer", "status", "failure"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 503, None),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 \r\n\r\n", 403, None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None, "101 without Upgrade: websocket"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None, "answer is not HTTP"),
        (b"HTTP/1.1 101 Sw", None, "closed in its answer"),
        (b"", None, "closed without answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, None, "answer too long"),
    ],
)
def test_what_does_not_open_says_why(run, answer: bytes, status: int | None, failure: str | None) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.write(answer)
        if peer.writer.can_write_eof():
            peer.writer.write_eof()
        await peer.until_gone()

    seen = run(talk(script))
    assert (seen.status, seen.failure, seen.open_ms, seen.reached) == (status, failure, None, True)


@pytest.mark.parametrize(
    ("extra", "accept", "failure"),
    [
        ((), "AAAA", "101 with a wrong Sec-WebSocket-Accept"),
        (("Sec-WebSocket-Protocol: chat",), None, "101 with a subprotocol that was not offered"),
        (("Sec-WebSocket-Extensions: foo",), None, "101 with an extension that was not offered"),
    ],
)
def test_a_101_that_a_client_must_not_take_is_a_failure(run, extra, accept, failure) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade(*extra, accept=accept)
        await peer.until_gone()

    assert run(talk(script)).failure == failure


def test_an_offered_subprotocol_may_be_chosen(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade("Sec-WebSocket-Protocol: chat.v2")
        peer.writer.write(close_frame(1000))
        await peer.until_gone()

    async def offered() -> Observation:
        async with serve(script) as server:
            seen = await converse(replace(server.target, subprotocols=("chat.v1", "chat.v2")), QUIET, PATIENT)
            assert b"\r\nSec-WebSocket-Protocol: chat.v1, chat.v2" in server.requests[0]
            return seen

    assert run(offered()).open_ms is not None


def test_a_server_that_hangs_before_its_answer_is_a_timeout(run) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_gone()

    assert run(talk(script, manner=Manner(b"hello", open_timeout_s=0.05))).failure == "timeout"


def test_nobody_listening_is_not_reached(run) -> None:
    async def gone() -> Observation:
        async with serve(echo) as server:
            pass
        return await converse(server.target, AT_ONCE, PATIENT)

    seen = run(gone())
    assert (seen.reached, seen.failure) == (False, "connection refused")


@pytest.mark.parametrize(
    ("end", "code"),
    [(close_frame(1011, "oops"), 1011), (close_frame(4401), 4401), (close_frame(1005), 1005), (b"", 1006)],
)
def test_a_server_that_ends_it_without_an_answer_gives_the_code(run, end: bytes, code: int) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(end)
        if not end:
            peer.writer.write_eof()
        await peer.until_gone()

    seen = run(talk(script))
    assert (seen.answer_ms, seen.close_code) == (None, code)
    assert seen.open_ms is not None


def test_a_close_of_the_server_is_answered(run) -> None:
    heard = bytearray()

    async def script(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(close_frame(1012))
        while chunk := await peer.reader.read(65536):
            heard.extend(chunk)

    run(talk(script, QUIET))
    walker = FrameWalker()
    walker.feed(bytes(heard))
    assert [notice.opcode for notice in walker.notices] == [CLOSE]


def test_pings_are_answered_so_that_a_gate_can_prove_the_client(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(frame(PING, b"nonce"))
        pong = await peer.reader.readexactly(6 + 5)
        walker = FrameWalker(controls=True)
        walker.feed(pong)
        assert (walker.notices[0].opcode, walker.notices[0].payload) == (PONG, b"nonce")
        peer.writer.write(close_frame(4000))
        await peer.until_gone()

    assert run(talk(script, QUIET)).close_code == 4000


def test_a_greeting_is_no_answer(run) -> None:
    async def greets_only(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(frame(TEXT, b"welcome"))
        await peer.until_close()

    seen = run(talk(greets_only, manner=replace(MANNER, unasked=1)))
    assert (seen.messages, seen.answer_ms) == (1, None)


def test_what_came_before_we_spoke_is_no_answer(run) -> None:
    async def greets_only(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(frame(TEXT, b"welcome"))
        await peer.until_close()

    seen = run(talk(greets_only, SLOW, MANNER))
    assert (seen.messages, seen.answer_ms) == (1, None)


def test_only_an_equal_message_is_an_echo_also_in_fragments_after_others(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        await peer.reader.readexactly(6 + 5)
        peer.writer.write(frame(TEXT, b"hello, you") + frame(BINARY, b"x" * 70_000))
        peer.writer.write(frame(TEXT, b"hel", fin=False) + frame(PING) + frame(CONTINUATION, b"lo"))
        await peer.until_close()

    seen = run(talk(script, manner=replace(PATIENT, expect=Expect.ECHO)))
    assert seen.answer_ms is not None
    assert seen.messages == 3


def test_another_message_is_no_echo(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        peer.writer.write(frame(TEXT, b"hello, you"))
        await peer.until_close()

    assert run(talk(script, manner=replace(MANNER, expect=Expect.ECHO))).answer_ms is None


def test_who_leaves_has_his_close_right_behind_his_message(run) -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        peer.upgrade()
        heard.append(await peer.reader.readexactly(6 + 5 + 6 + 2))
        peer.writer.write(close_frame(1000))
        await peer.until_gone()

    seen = run(talk(script, LEAVE))
    assert heard[0][0] == 0x81
    assert heard[0][11] == 0x88
    assert seen.close_code == 1000


def test_a_server_that_ignores_our_close_is_left_open_behind(run) -> None:
    async def script(peer: Peer) -> None:
        peer.upgrade()
        await peer.reader.readexactly(6 + 5)
        peer.writer.write(frame(TEXT, b"hello"))
        await peer.until_gone()

    seen = run(talk(script))
    assert seen.answer_ms is not None
    assert seen.close_code is None


def test_a_cancelled_conversation_leaves_no_connection_behind(run) -> None:
    arrived = asyncio.Event()
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        arrived.set()
        try:
            await peer.until_gone()
        finally:
            gone.set()

    async def cancelled() -> None:
        async with serve(script) as server:
            task = asyncio.create_task(converse(server.target, AT_ONCE, PATIENT))
            await arrived.wait()
            task.cancel()
            await gone.wait()

    run(cancelled())
