"""Any frame sequence, cut at any bytes, gives the same counts, boundaries, notices and output."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    Control,
    FrameWalker,
    close_frame,
    frame,
    mask_payload,
    parse_close,
)

KEY = b"\x01\x02\x03\x04"
OURS = b"readygat"


@st.composite
def messages(draw, own_pongs=True):
    """A list of (bytes, own pong?) as a peer might send them; fragments may hold control frames."""
    mask = draw(st.sampled_from([None, KEY]))
    sizes = st.one_of(st.integers(0, 40), st.sampled_from([124, 125, 126, 127, 65535, 65536, 70000]))

    def control():
        opcode = draw(st.sampled_from([PING, PONG]))
        own = own_pongs and opcode == PONG and draw(st.booleans())
        payload = OURS if own else draw(st.binary(max_size=125).filter(lambda p: p != OURS))
        return frame(opcode, payload, mask=mask), own

    pieces, text, binary, said = [], 0, 0, {TEXT: 0, BINARY: 0}
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.integers(0, 3)) == 0:
            pieces.append(control())
            continue
        kind = draw(st.sampled_from([TEXT, BINARY]))
        parts = [bytes(draw(sizes)) for _ in range(draw(st.integers(1, 3)))]
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            pieces.append((frame(kind if i == 0 else CONTINUATION, part, mask=mask, fin=last), False))
            said[kind] += len(part)
            if not last and draw(st.booleans()):
                pieces.append(control())
        text, binary = text + (kind == TEXT), binary + (kind == BINARY)
    return pieces, text, binary, (said[TEXT], said[BINARY])


def cuts_of(data, draw_points):
    points = sorted({p % (len(data) + 1) for p in draw_points})
    edges = [0, *points, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


@settings(max_examples=300, deadline=None)
@given(messages(), st.lists(st.integers(0, 200_000), max_size=30), st.booleans())
def test_any_cut_gives_the_same_counts_boundaries_and_output(sequence, points, byte_by_byte):
    pieces, text, binary, said = sequence
    wire = b"".join(piece for piece, _ in pieces)
    walker = FrameWalker()
    for _, own in pieces:
        if own:
            walker.expect_pong(OURS)
    boundaries, position = {0}, 0
    for piece, _ in pieces:
        position += len(piece)
        boundaries.add(position)
    chunks = [bytes([b]) for b in wire] if byte_by_byte and len(wire) < 2000 else cuts_of(wire, points)
    out, seen = b"", 0
    owns = sum(own for _, own in pieces)
    for chunk in chunks:
        out += walker.feed(chunk)
        seen += len(chunk)
        if seen in boundaries:
            assert walker.at_boundary
        elif not owns:
            assert not walker.at_boundary
    # a nonce is cut once; a second pong with it is the peer's own doing
    expected, cut = b"", False
    for piece, own in pieces:
        if own and not cut:
            cut = True
            continue
        expected += piece
    assert out == expected
    assert (walker.text, walker.binary) == (text, binary)
    assert (walker.text_bytes, walker.binary_bytes) == said
    assert walker.frames == len(pieces)
    assert sum(n.own for n in walker.notices) == int(cut)


@settings(max_examples=300, deadline=None)
@given(messages(), st.lists(st.integers(0, 200_000), max_size=30))
def test_payload_that_is_skipped_counts_as_if_it_had_been_fed(sequence, points):
    pieces, text, binary, said = sequence
    wire = b"".join(piece for piece, _ in pieces)
    walker, fed, skipped = FrameWalker(), b"", b""
    at = 0
    for chunk in cuts_of(wire, points):
        size = min(len(chunk), walker.unseen)
        walker.skip(size)
        skipped += chunk[:size]
        if size < len(chunk):
            assert walker.feed(chunk[size:]) == chunk[size:]
            fed += chunk[size:]
        at += len(chunk)
        whole = FrameWalker()
        whole.feed(wire[:at])
        assert (walker.rest, walker.torso, walker.at_boundary) == (whole.rest, whole.torso, whole.at_boundary)
        assert walker.notices == whole.notices
    assert len(fed) + len(skipped) == len(wire)
    assert (walker.text, walker.binary) == (text, binary)
    assert (walker.text_bytes, walker.binary_bytes) == said
    assert walker.frames == len(pieces)


def test_nothing_is_unseen_that_somebody_looks_at():
    walker = FrameWalker()
    assert walker.unseen == 0
    walker.feed(frame(PING, bytes(100))[:50])
    assert walker.unseen == 0  # a control frame
    walker.feed(frame(PING, bytes(100))[50:] + frame(TEXT, bytes(1000))[:3])
    assert walker.unseen == 0  # a header
    walker.feed(frame(TEXT, bytes(1000))[3:10])
    assert walker.unseen == 994
    walker.message_bytes = 1000
    walker.feed(bytes(994) + frame(TEXT, bytes(2000))[:10])
    assert walker.too_big
    assert walker.unseen == 0


@pytest.mark.parametrize("mask", [None, KEY])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_own_pong_is_cut_and_a_foreign_one_passes(mask, step):
    walker = FrameWalker()
    walker.expect_pong(OURS)
    before, foreign = frame(TEXT, b"a", mask=mask), frame(PONG, b"theirs", mask=mask)
    wire = before + frame(PONG, OURS, mask=mask) + foreign + before
    out = b"".join(walker.feed(wire[i : i + step]) for i in range(0, len(wire), step))
    assert out == before + foreign + before
    assert walker.notices == [Control(PONG, OURS, own=True)]


def test_a_late_own_pong_is_cut_in_the_middle_of_a_fragmented_message():
    walker = FrameWalker()
    walker.expect_pong(OURS)
    start, end = frame(TEXT, b"x" * 70000, fin=False), frame(CONTINUATION, b"y")
    assert walker.feed(start + frame(PONG, OURS) + end) == start + end
    assert walker.messages == 1


def test_one_boundary_is_not_reported_inside_a_held_frame_that_was_not_passed_on():
    walker = FrameWalker()
    walker.expect_pong(OURS)
    assert walker.feed(frame(PONG, OURS)[:5]) == b""
    assert walker.at_boundary  # nothing of it has gone out: a frame of ours may


def test_a_pong_begun_before_our_ping_is_never_held_in_part():
    walker = FrameWalker()
    pong = frame(PONG, b"12345678")
    assert walker.feed(pong[:1]) == pong[:1]
    walker.expect_pong(OURS)
    assert walker.feed(pong[1:]) == pong[1:]


def test_a_pong_too_long_to_be_ours_is_not_held():
    walker = FrameWalker()
    walker.expect_pong(OURS)
    wire = frame(PONG, bytes(100_000))
    out = b"".join(walker.feed(wire[i : i + 50]) for i in range(0, len(wire), 50))
    assert out == wire


@pytest.mark.parametrize("step", [1, 7, 140, 190, 250])
@pytest.mark.parametrize("size", [126, 140, 170, 300])
@pytest.mark.parametrize("opcode", [PONG, CLOSE])
def test_a_control_frame_longer_than_one_may_be_passes_whole_however_it_is_cut(opcode, size, step):
    walker = FrameWalker()
    walker.expect_pong(OURS)
    walker.hold_close = True
    wire = frame(opcode, bytes(range(256))[:size] + bytes(max(size - 256, 0)), mask=KEY) + frame(TEXT, b"on")
    assert b"".join(walker.feed(wire[i : i + step]) for i in range(0, len(wire), step)) == wire
    assert walker.text == 1


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_hold_close_keeps_back_the_close_and_all_behind_it(step):
    walker = FrameWalker()
    walker.hold_close = True
    said = frame(TEXT, b"bye", mask=KEY)
    wire = said + close_frame(4000, "done", mask=KEY) + b"\x88\xffgarbage"
    assert b"".join(walker.feed(wire[i : i + step]) for i in range(0, len(wire), step)) == said
    assert [(n.opcode, parse_close(n.payload)) for n in walker.notices] == [(CLOSE, (4000, "done"))]
    assert walker.at_boundary


def test_a_close_begun_while_it_was_held_passes_whole_once_it_is_not():
    walker = FrameWalker()
    walker.hold_close = True
    wire = close_frame(1000, "bye", mask=KEY)
    assert walker.feed(wire[:5]) == b""
    walker.hold_close = False
    assert walker.feed(wire[5:]) == wire


@pytest.mark.parametrize("mask", [None, KEY])
def test_the_torso_is_what_was_passed_on_of_a_frame_that_is_not_whole(mask):
    walker, torsos = FrameWalker(), []
    walker.expect_pong(OURS)
    text, pong = frame(TEXT, bytes(200), mask=mask), frame(PONG, OURS, mask=mask)
    for byte in text + pong + text[:1]:
        walker.feed(bytes([byte]))
        torsos.append(walker.torso)
    assert torsos == [*range(1, len(text)), 0, *[0] * len(pong), 1]


def test_there_is_no_torso_of_a_message_that_is_too_big_since_nothing_of_it_passes():
    walker = FrameWalker()
    walker.message_bytes = 125
    said = frame(TEXT, b"whole")
    assert walker.feed(said + frame(TEXT, bytes(200))[:150]) == said
    assert walker.torso == 0


STRAY = [
    # a continuation of nothing, and a message between the fragments of another (RFC 6455 5.4 forbids both)
    [frame(BINARY, bytes(100)), frame(CONTINUATION, bytes(100))],
    [frame(BINARY, bytes(60), fin=False), frame(TEXT, bytes(100)), frame(CONTINUATION, bytes(60))],
]


@pytest.mark.parametrize("wire", STRAY, ids=["of nothing", "between fragments"])
def test_fragments_out_of_order_are_counted_and_measured_alike_however_they_are_cut(wire):
    counts = []
    for chunks in (wire, [b"".join(wire)], [bytes([byte]) for byte in b"".join(wire)]):
        walker = FrameWalker()
        walker.message_bytes = 125
        out = b"".join(walker.feed(chunk) for chunk in chunks)
        assert out == b"".join(wire)
        counts.append((walker.text, walker.binary, walker.too_big))
    assert counts == [(1, 1, False)] * 3


def test_a_control_frame_that_is_not_looked_for_is_not_held_because_its_header_was_cut():
    walker = FrameWalker()
    walker.message_bytes = 125
    ping = frame(PING, b"theirs")
    assert walker.feed(ping[:1]) == b""
    assert walker.feed(ping[1:4]) == ping[:4]


def test_a_pong_of_ours_is_not_a_settled_frame_until_it_is_clear_whose_it_is():
    walker = FrameWalker()
    walker.expect_pong(OURS)
    settled = []
    for wire in (frame(PONG, OURS), frame(PONG, b"theirs"), frame(TEXT, b"text")):
        for part in (wire[:4], wire[4:]):
            walker.feed(part)
            settled.append(walker.settled)
    assert settled == [0, 1, 2, 2, 3, 3]  # once ours has come, no other pong is in doubt


def test_a_close_passes_and_is_noted_when_it_is_not_held():
    walker = FrameWalker()
    wire = close_frame(1011, "oops")
    assert walker.feed(wire) is wire
    assert parse_close(walker.notices[0].payload) == (1011, "oops")


def test_a_length_with_the_top_bit_set_is_walked_not_judged():
    walker = FrameWalker()
    wire = b"\x82\x7f" + b"\xff" * 8 + b"x"
    assert walker.feed(wire) == wire
    assert not walker.at_boundary


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [None, KEY])
def test_a_built_frame_is_one_whole_message_of_its_size(size, mask):
    walker = FrameWalker()
    walker.feed(frame(BINARY, bytes(size), mask=mask))
    assert (walker.binary, walker.payload_bytes, walker.at_boundary) == (1, size, True)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_inverse(payload, key):
    assert mask_payload(mask_payload(payload, key), key) == payload


def test_close_frames_never_carry_codes_that_must_not_be_sent():
    assert parse_close(close_frame(1006)[2:])[0] == 1011
    assert parse_close(close_frame(1015)[2:])[0] == 1011
    assert parse_close(close_frame(NO_CODE)[2:]) == (NO_CODE, "")
    assert parse_close(b"\x03")[0] == 1002


def test_a_close_reason_is_cut_at_a_character():
    payload = close_frame(1000, "ü" * 100)[2:]
    assert len(payload) <= 125
    assert parse_close(payload) == (1000, "ü" * 61)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_all_control_frames_are_told_to_who_asks_for_them_however_they_are_cut(step):
    walker, silent = FrameWalker(controls=True), FrameWalker()
    wire = frame(PING, b"a", mask=KEY) + frame(TEXT, b"text") + frame(PONG, b"b") + frame(0xB, b"c")
    for each in (walker, silent):
        assert b"".join(each.feed(wire[i : i + step]) for i in range(0, len(wire), step)) == wire
        assert (each.frames, each.text) == (4, 1)
    assert walker.notices == [Control(PING, b"a"), Control(PONG, b"b"), Control(0xB, b"c")]
    assert silent.notices == []
