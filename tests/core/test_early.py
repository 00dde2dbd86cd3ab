"""Early bytes are held in order, up to a watermark, and given away once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.early import EarlyBuffer, EarlyTotal
from proxy.core.frames import PONG, TEXT, FrameWalker, frame


def test_what_was_held_is_taken_once_and_in_order():
    early = EarlyBuffer(100)
    early.push(b"one ", torso=0)
    early.push(b"two", torso=0)
    assert early.take() == b"one two"
    assert early.take() == b""


@pytest.mark.parametrize(
    ("sizes", "reached"), [([99], False), ([100], True), ([60, 39], False), ([60, 40], True)]
)
def test_the_watermark_is_reached_at_its_very_byte(sizes, reached):
    early = EarlyBuffer(100)
    assert [early.push(bytes(size), torso=0) for size in sizes][-1] is reached


def test_above_the_watermark_nothing_is_dropped():
    early = EarlyBuffer(4)
    assert early.push(b"123456", torso=0)
    assert early.push(b"789", torso=0)
    assert early.take() == b"123456789"


def test_an_emptied_buffer_has_room_again_but_remembers_how_much_it_was_told():
    early = EarlyBuffer(4)
    early.push(b"1234", torso=0)
    early.clear()
    assert not early.push(b"56", torso=0)
    assert (early.size, early.total) == (2, 6)


def test_nothing_pushed_holds_nothing():
    early = EarlyBuffer(4)
    assert not early.push(b"", torso=0)
    assert early.take_whole() == b""


def test_of_a_sender_that_is_gone_only_whole_frames_are_taken():
    early = EarlyBuffer(100)
    early.push(b"whole", torso=0)
    early.push(b"torso", torso=5)
    assert early.take_whole() == b"whole"
    assert early.size == 0


def test_a_whole_frame_is_not_lost_with_the_torso_that_came_in_the_same_chunk():
    early = EarlyBuffer(100)
    early.push(b"wholetor", torso=3)
    assert early.take_whole() == b"whole"


def test_a_torso_that_was_completed_is_a_whole_frame():
    early = EarlyBuffer(100)
    early.push(b"wholetor", torso=3)
    early.push(b"so", torso=0)
    assert early.take_whole() == b"wholetorso"


def test_what_several_buffers_hold_is_known_together_at_any_time():
    together = EarlyTotal()
    one, other = EarlyBuffer(100, together), EarlyBuffer(4, together)
    one.push(b"12345", torso=0)
    other.push(b"123456", torso=2)
    assert together.bytes == 11
    one.take()
    assert together.bytes == 6
    other.take_whole()
    one.push(b"7", torso=0)
    assert together.bytes == 1
    one.clear()
    one.clear()
    assert together.bytes == 0


@given(
    st.lists(st.tuples(st.sampled_from([TEXT, PONG]), st.sampled_from([0, 3, 125, 126, 70_000])), max_size=5),
    st.lists(st.integers(0, 200_000), max_size=8),
    st.integers(0, 200_000),
)
def test_however_a_stream_is_cut_and_wherever_it_ends_exactly_its_whole_frames_are_taken(kinds, points, end):
    frames = [frame(opcode, bytes(size if opcode == TEXT else min(size, 125))) for opcode, size in kinds]
    wire = b"".join(frames)
    wire = wire[: end % (len(wire) + 1)]
    early, walker = EarlyBuffer(1 << 20), FrameWalker()
    walker.expect_pong(b"not sent")
    edges = sorted({0, len(wire), *(point % (len(wire) + 1) for point in points)})
    for start, stop in pairwise(edges):
        passed = walker.feed(wire[start:stop])
        early.push(passed, torso=walker.torso)
    whole = b""
    for each in frames:
        if len(whole) + len(each) > len(wire):
            break
        whole += each
    assert early.take_whole() == whole
