"""Clients that do nothing, slowly: each is ended in its time, and keeps nothing from others meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.edge.upstream import parse_upstream
from proxy.policy import load
from proxy.server import Gate, Listeners
from tests.backends import front
from tests.bench import process
from tests.hostile.conftest import Stand
from tests.hostile.peer import Peer, upgrade
from tests.hostile.recorder import OK, Recorder
from tests.telemetry.reports import telemetry

GET = b"GET /a HTTP/1.1\r\nHost: example.test\r\n\r\n"
BEGUN = {
    "a length": b"POST /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 10\r\n\r\nhel",
    "chunks": b"POST /a HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "an expectation": b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
}
MUCH = 1 << 23


@pytest.mark.parametrize("said", [b"", b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: ", b"\r\n\r\n"])
def test_a_head_that_does_not_come_ends_with_408(stand: Stand, said: bytes):
    with stand.peer() as peer:
        peer.send(said)
        assert peer.end().startswith(b"HTTP/1.1 408")
    assert stand.fence() == []


@pytest.mark.parametrize("said", BEGUN.values(), ids=BEGUN)
def test_a_body_that_stops_coming_ends_with_408_and_the_upstream_hears_no_end_of_it(
    stand: Stand, said: bytes
):
    with stand.peer() as peer:
        peer.send(said)
        answers = [answer for answer in peer.responses(1) if answer.start[0] != b"100"]
        assert [answer.start[0] for answer in answers or peer.responses(2)[1:]] == [b"408"]
        (heard,) = stand.backend.until(lambda connections: [one for one in connections if one.lost])
    assert (heard.targets, heard.whole) == ([b"/a"], 0)


def test_a_body_that_trickles_is_left_alone(stand: Stand):
    """Longer in all than it may be silent at once."""
    with stand.peer() as peer:
        peer.send(b"POST /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 12\r\n\r\n")
        peer.socket.settimeout(0.1)
        for _ in range(12):
            with contextlib.suppress(TimeoutError):
                peer.raw += peer.socket.recv(1)
            peer.send(b"x")
        peer.socket.settimeout(10)
        assert peer.responses(1)[0].start[0] == b"200"


def test_a_response_in_which_nothing_is_said_is_left_alone(stand: Stand):
    """An event stream may be silent for longer than a client may."""
    stand.backend.answers = lambda _: OK.replace(b": 2\r\n\r\nok", b": 4\r\n\r\nok")
    with stand.peer() as peer:
        peer.send(GET)
        peer.until(b"\r\n\r\nok")
        peer.socket.settimeout(1.2)
        with pytest.raises(TimeoutError):
            peer.socket.recv(1)
        peer.socket.settimeout(10)
        (heard,) = stand.backend.connections
        stand.backend.loop.call_soon_threadsafe(heard.transport.write, b"!!")
        assert peer.responses(1)
        assert peer.raw.endswith(b"ok!!")


@pytest.mark.parametrize("asked", [GET, upgrade()], ids=["plain HTTP", "a rejected upgrade"])
def test_a_response_that_nobody_takes_is_cut(stand: Stand, asked: bytes):
    much = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % MUCH + bytes(MUCH)
    stand.backend.answers = stand.backend.upgraded = lambda _: much  # type: ignore[method-assign]
    try:
        with stand.peer(receive_bytes=4096) as peer:
            peer.send(asked)
            stand.backend.until(lambda connections: [one for one in connections if one.lost])
            assert len(peer.end()) < MUCH
    finally:
        del stand.backend.upgraded


def test_answers_that_nobody_takes_are_not_piled_up(stand: Stand):
    """Requests of a pipeline wait until the answers before them are taken; the client is ended in the end."""
    body = b"x" * 20_000
    stand.backend.answers = lambda _: OK.replace(b": 2\r\n\r\nok", b": 20000\r\n\r\n" + body)
    with stand.peer(receive_bytes=4096) as peer:
        peer.send(GET * 2000)
        stand.gate.wait_for_log(lambda text: "response not taken" in text, within_s=10)
        assert len(stand.backend.targets()) < 500
        peer.end()


def test_a_tls_handshake_that_does_not_go_on_is_ended(run, tmp_path: Path):
    import trustme  # noqa: PLC0415 - slow to import, and only this test needs it

    async def main() -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("localhost").configure_cert(tls)
        file = tmp_path / "policy.yaml"
        file.write_text("extends: production\nhttp: {header_deadline_s: 0.2}\n")
        gate = Gate(
            parse_upstream("http://127.0.0.1:9"), load(str(file)), telemetry(InMemorySpanExporter()), None
        )
        public = socket.create_server(("127.0.0.1", 0))
        await gate.start(Listeners(public, tls=tls))
        reader, writer = await asyncio.open_connection("127.0.0.1", public.getsockname()[1])
        writer.write(b"\x16\x03\x01")
        assert await reader.read() == b""
        writer.close()
        await gate.stop()

    run(main())


@pytest.fixture(scope="module")
def crowded() -> Iterator[Stand]:
    """A gate that may have ten connections without a session."""
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Recorder().listening())
        policy = "extends: production\nlimits: {connections: 10}\n"
        yield Stand(stack.enter_context(front.gate(f"http://127.0.0.1:{backend.port}", policy)), backend)


def test_who_has_waited_longest_makes_room_and_sessions_and_requests_are_left_alone(crowded: Stand):
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(crowded.peer())
        session.send(upgrade())
        session.upgraded()
        kept = stack.enter_context(crowded.peer())
        kept.send(GET)
        assert kept.responses(1)[0].start[0] == b"200"
        silent = [stack.enter_context(crowded.peer()) for _ in range(40)]
        # The first thirty, and the one that was answered once, have made room for the others.
        assert [peer.end() for peer in silent[:30]] == [b""] * 30
        assert b"200 OK" in kept.end()
        (open_one,) = [one for one in crowded.backend.connections if one.targets == [b"/ws"]]
        session.send(b"\x81\x85\0\0\0\0hello")
        crowded.backend.until(lambda _: open_one.raw.endswith(b"hello"))
        silent[-1].send(GET)
        assert silent[-1].responses(1)[0].start[0] == b"200"
        assert process.descriptors(crowded.gate.pid) < 40
        assert '"limit":"connections"' in crowded.gate.wait_for_log(lambda text: "limit reached" in text)


def test_when_none_waits_the_newcomer_is_ended(crowded: Stand):
    crowded.backend.answers = lambda _: b""
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(crowded.peer()) for _ in range(10)]
        for peer in asking:
            peer.send(GET)
        before = len(crowded.backend.targets())
        crowded.backend.until(lambda all_: sum(one.targets == [b"/a"] and not one.lost for one in all_) >= 10)
        assert before <= len(crowded.backend.targets())
        assert stack.enter_context(crowded.peer()).end() == b""
        (one, *_) = [
            each for each in crowded.backend.connections if each.targets == [b"/a"] and not each.lost
        ]
        crowded.backend.loop.call_soon_threadsafe(one.transport.write, OK)
        served = [peer for peer in asking if _is_answered(peer)]
        assert len(served) == 1


def _is_answered(peer: Peer) -> bool:
    peer.socket.settimeout(0.2)
    try:
        return peer.socket.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
    except TimeoutError:
        return False
