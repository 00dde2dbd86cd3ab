"""WebSocket abuse: bad handshakes are refused, odd frames pass as they came, nothing piles up in the gate."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.bench import process
from tests.hostile.conftest import Stand
from tests.hostile.frames import CLOSES, PASSED, TOO_LONG, said
from tests.hostile.peer import KEY, upgrade

HANDSHAKES = {
    "a key of 15 bytes": (upgrade(key=b"dGhlIHNhbXBsZSBub25j"), 400),
    "a key of 17 bytes": (upgrade(key=b"dGhlIHNhbXBsZSBub25jZSE="), 400),
    "an empty key": (upgrade(key=b""), 400),
    "a long key": (upgrade(key=b"QUFB" * 1000), 400),
    "a key in another alphabet": (upgrade(key=b"_-_-_-_-_-_-_-_-_-_-_w=="), 400),
    "a key without padding": (upgrade(key=KEY.rstrip(b"=")), 400),
    "two keys in one": (upgrade(key=KEY + b", " + KEY), 400),
    "two keys": (upgrade(b"Sec-WebSocket-Key: " + KEY), 400),
    "two versions": (upgrade(b"Sec-WebSocket-Version: 8"), 426),
    "a version twice": (upgrade(b"Sec-WebSocket-Version: 13"), 426),
    "a list of versions": (upgrade().replace(b"Version: 13", b"Version: 13, 8"), 426),
    "version 013": (upgrade().replace(b"Version: 13", b"Version: 013"), 426),
    "an old key of the drafts": (upgrade(b"Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5"), 400),
    "a body by length": (upgrade(b"Content-Length: 5") + b"hello", 400),
    "a body in chunks": (upgrade(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "two lengths": (upgrade(b"Content-Length: 0", b"Content-Length: 5") + b"hello", 400),
    "an alias of the key": (upgrade(b"Sec_WebSocket_Key: " + KEY), 400),
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "a fragment": (upgrade(target=b"/ws#/limited"), 400),
    "a fold": (upgrade(b"Sec-WebSocket-Protocol: a,\r\n b"), 400),
}
every_frame = pytest.mark.parametrize("sent", (PASSED | TOO_LONG).values(), ids=PASSED | TOO_LONG)


@pytest.mark.parametrize(("asked", "status"), HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_malformed_handshake_is_refused(stand: Stand, asked: bytes, status: int):
    with stand.peer() as peer:
        peer.send(asked)
        (answer,) = peer.responses(1)
        assert int(answer.start[0]) == status
        peer.finish()
    assert stand.fence() == []


def test_repeated_offers_pass_as_they_came(stand: Stand):
    """RFC 6455 section 11.3.2 and 11.3.4: these may be repeated."""
    offers = [b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b", b"Sec-WebSocket-Extensions: x; y=1"]
    with stand.peer() as peer:
        peer.send(upgrade(*offers, b"Sec-WebSocket-Extensions: z"))
        peer.upgraded()
        (heard,) = stand.backend.connections
        assert heard.messages[0].all(b"sec-websocket-protocol") == [b"a", b"b"]
        assert heard.messages[0].all(b"sec-websocket-extensions") == [b"x; y=1", b"z"]


@every_frame
def test_an_odd_frame_behind_the_handshake_passes_as_it_came(stand: Stand, sent: bytes):
    with stand.peer() as peer:
        peer.send(upgrade() + sent)
        peer.upgraded()
        stand.backend.until(lambda connections: sent in connections[0].raw)


@every_frame
def test_an_odd_frame_in_an_open_session_passes_as_it_came(stand: Stand, sent: bytes):
    with stand.peer() as peer:
        opened(stand, peer)
        peer.send(sent)
        stand.backend.until(lambda connections: sent in connections[0].raw)


@pytest.mark.parametrize("sent", PASSED.values(), ids=PASSED)
def test_an_odd_frame_passes_where_messages_are_limited(stand: Stand, sent: bytes):
    with stand.peer() as peer:
        opened(stand, peer, b"/limited")
        peer.send(sent)
        stand.backend.until(lambda connections: sent in connections[0].raw)


@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
@pytest.mark.parametrize("sent", TOO_LONG.values(), ids=TOO_LONG)
def test_a_message_without_end_is_ended_where_messages_are_limited(stand: Stand, sent: bytes, early: bool):
    """Its sender gets Close 1009, the backend no more than the limit of it."""
    with stand.peer() as peer:
        if early:
            peer.send(upgrade(target=b"/limited") + sent)
            peer.upgraded()
        else:
            opened(stand, peer, b"/limited")
            peer.send(sent)
        peer.until(b"\x03\xf1message too big")
        peer.finish()
    (heard,) = stand.backend.until(lambda connections: [one for one in connections if one.lost])
    assert heard.raw.count(sent[-64:]) == 0 or len(heard.raw) < 2000


@pytest.mark.parametrize("sent", CLOSES.values(), ids=CLOSES)
def test_an_odd_close_ends_the_session_on_both_legs(stand: Stand, sent: bytes):
    with stand.peer() as peer:
        opened(stand, peer)
        peer.send(sent)
        peer.finish()
    stand.backend.until(lambda connections: all(one.lost for one in connections))


@pytest.mark.parametrize("sent", PASSED.values(), ids=PASSED)
def test_an_odd_frame_of_the_backend_passes_as_it_came(stand: Stand, sent: bytes):
    with stand.peer() as peer:
        heard = opened(stand, peer)
        stand.backend.loop.call_soon_threadsafe(heard.transport.write, sent)
        peer.until(sent)


def test_what_a_client_says_without_end_before_the_gate_opens_is_held_back(stand: Stand):
    stand.backend.upgraded = lambda _: b""  # type: ignore[method-assign]
    try:
        with stand.peer() as peer:
            peer.send(upgrade() + said(0x02, b""))
            before, _ = process.memory_kb(stand.gate.pid)
            peer.fill(said(0x00, bytes(60_000)))
            after, _ = process.memory_kb(stand.gate.pid)
            assert after - before < 8_192
            peer.reset()
    finally:
        del stand.backend.upgraded


def test_what_a_backend_does_not_take_is_held_back(stand: Stand):
    with stand.peer() as peer:
        heard = opened(stand, peer)
        stand.backend.loop.call_soon_threadsafe(heard.transport.pause_reading)
        before, _ = process.memory_kb(stand.gate.pid)
        peer.send(said(0x02, b""))
        peer.fill(said(0x00, bytes(60_000)))
        after, _ = process.memory_kb(stand.gate.pid)
        assert after - before < 8_192
        peer.reset()


def test_all_that_leaves_nothing_behind(stand: Stand):
    """Whatever the tests before this one did: no session, and the metrics agree."""
    stand.backend.until(lambda connections: all(one.lost for one in connections))
    admin = f"http://127.0.0.1:{stand.gate.admin_port}"
    sessions = None
    while sessions != []:
        with urllib.request.urlopen(f"{admin}/sessions", timeout=10) as answer:
            sessions = json.load(answer)["sessions"]
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    counts = [float(line.rsplit(" ", 1)[1]) for line in told.splitlines() if not line.startswith("#")]
    assert all(0 <= count < 1e12 for count in counts)


def opened(stand: Stand, peer, target: bytes = b"/ws"):
    """Open the session, see that it is, and return its upstream."""
    peer.send(upgrade(target=target))
    peer.upgraded()
    hello = said(0x81, b"hello")
    peer.send(hello)
    (heard,) = stand.backend.until(
        lambda connections: [one for one in connections if one.targets == [target] and hello in one.raw]
    )
    return heard
