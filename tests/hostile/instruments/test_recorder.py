"""The recorder knows the gate's Close when it sees one, and nothing else for it."""

from __future__ import annotations

import pytest

from proxy.core.frames import BINARY, PING, close_frame, frame
from tests.hostile.frames import MASK, PASSED
from tests.hostile.recorder import ends_with_close

CLOSE = close_frame(1001, "going", mask=MASK)


@pytest.mark.parametrize("first", [0x01, 0x87, 0x88, 0xFF])
def test_a_ping_is_no_close_whatever_its_mask(first: int):
    """With 0x87 in front, length and mask of a ping of 8 bytes look like the head of a Close."""
    assert not ends_with_close(frame(PING, b"12345678", mask=bytes([first, 1, 2, 3])))


@pytest.mark.parametrize("before", [b"", *PASSED.values(), bytes(100)], ids=["nothing", *PASSED, "payload"])
def test_a_close_is_seen_behind_anything(before: bytes):
    assert ends_with_close(before + CLOSE)
    assert not ends_with_close(before)


def test_a_close_in_the_midst_of_a_message_is_none():
    assert not ends_with_close(frame(BINARY, CLOSE, mask=bytes(4)))
