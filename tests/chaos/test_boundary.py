"""The relay's own idea of where frames begin."""

from __future__ import annotations

import pytest

from tests.backends.flaky import encode
from tests.chaos.boundary import Boundary

HEAD = b"GET /ledger/7 HTTP/1.1\r\nHost: example.test\r\n\r\n"
FRAMES = [
    encode(0x81, b"hello", b"mask"),
    encode(0x89, b""),
    encode(0x82, b"x" * 300),
    encode(0x01, b"", b"mask"),
    encode(0x80, b"y" * 70_000, b"mask"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_frames_are_found_however_the_bytes_come(size: int):
    stream, boundary, found = HEAD + b"".join(FRAMES), Boundary(), []
    for at in range(0, len(stream), size):
        found += [(at + offset, *rest) for offset, *rest in boundary.feed(stream[at : at + size])]
    expected, at = [], len(HEAD)
    for each in FRAMES:
        expected.append((at, len(each), each[0]))
        at += len(each)
    assert found == expected
    assert boundary.first == "GET /ledger/7 HTTP/1.1"
