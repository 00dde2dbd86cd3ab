"""Announcement: whatever a leg says, reading along never raises, keeps little, and hears what it should.

An input is one byte that says which announcement is waited for, then the stream.
"""

from __future__ import annotations

import json
import random
import zlib

from proxy.core.announcement import Announcement
from proxy.core.frames import BINARY, CONTINUATION, PING, TEXT, FrameWalker, frame
from proxy.core.plan import JsonMatch
from tests.fuzz import walker
from tests.fuzz.reference import Frame, frames
from tests.fuzz.target import Target

MATCHES = (
    None,
    JsonMatch(("type",), "ready"),
    JsonMatch(("a", "b"), 1),
    JsonMatch(("ok",), equals=True),
    JsonMatch(("x",), None),
    JsonMatch(("n",), 1.5),
)
_MOST = 1 << 16
_RSV1 = 0x40


def check(data: bytes) -> None:
    match = MATCHES[data[0] % len(MATCHES)] if data else None
    wire, chance = data[1:], random.Random(data[:9])
    some = sorted({chance.randrange(len(wire) + 1) for _ in range(8)})
    whole, cut, single = (heard(wire, match, cuts) for cuts in ([], some, range(len(wire))))
    assert whole == cut == single, "it depends on where the stream is cut"
    must = announces(wire, match)
    assert must is None or must == whole, f"it is {whole} that it announces"


def heard(wire: bytes, match: JsonMatch | None, cuts: list[int] | range) -> bool:
    """Whether it is heard in a stream cut at these places; it must not keep more than it may."""
    feed = FrameWalker()
    feed.tap = told = Announcement(match)
    at, before = 0, False
    for end in (*cuts, len(wire)):
        feed.feed(wire[at:end])
        at = end
        assert sum(map(len, told._parts)) <= _MOST
        assert told.heard or not before, "it stays heard"
        before = told.heard
    return told.heard


def announces(wire: bytes, match: JsonMatch | None) -> bool | None:
    """Say the same the simple way; None for a stream that breaks the RFC or is compressed in a broken way."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found = False
    for message in messages(wire):
        if message is None:
            return None
        first, text = message
        if first & _RSV1:
            try:
                text = inflater.decompress(text + b"\x00\x00\xff\xff", _MOST + 1)
            except zlib.error:
                return None
            if inflater.eof or inflater.unconsumed_tail or len(text) >= _MOST:
                return None
        found = found or match is None or (first & 0x0F == TEXT and matches(text, match))
    return found


def messages(wire: bytes) -> list[tuple[int, bytes] | None]:
    """Return the whole messages: first byte and payload. None where the order of fragments breaks the RFC."""
    parts: list[Frame] = []
    found: list[tuple[int, bytes] | None] = []
    for each in frames(wire):
        if each.control:
            continue
        if bool(each.opcode) == bool(parts):
            return [*found, None]
        parts.append(each)
        if each.fin and each.whole:
            found.append((parts[0].first, b"".join(part.payload for part in parts)))
            parts = []
        elif not each.whole:
            break
    return found


def matches(text: bytes, match: JsonMatch) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    for key in match.path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return type(value) is type(match.equals) and value == match.equals


def compressed(text: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def pieces(data: bytes) -> list[bytes]:
    head, *rest = walker.pieces(b"\0" + data)
    return [head[1:], *rest]


TOKENS = (
    *(
        frame(TEXT, text)
        for text in (b'{"type": "ready"}', b'{"a": {"b": 1}}', b'{"ok": true}', b'{"n": 1.5}')
    ),
    frame(TEXT, b'{"type": "ready"}', mask=walker.MASK),
    frame(TEXT, b'{"a": ', fin=False),
    frame(CONTINUATION, b'{"b": 1}}'),
    frame(TEXT, b'{"x": null}'),
    frame(BINARY, b'{"type": "ready"}'),
    frame(TEXT | _RSV1, compressed(b'{"type": "ready"}')),
    frame(TEXT | _RSV1, compressed(bytes(100_000))),
    frame(TEXT, b"[" * 2000),
    frame(TEXT, b"9" * 120),
    frame(PING, b"{}"),
)
TARGET = Target("announcement", check, TOKENS, pieces, longest=2048)
