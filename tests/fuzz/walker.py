"""FrameWalker: whatever the bytes and wherever they are cut, it tells what the reference tells.

An input is two bytes of options, then the stream. The options: which rules hold, and where the stream is cut.
"""

from __future__ import annotations

import random

from proxy.core.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameWalker,
    close_frame,
    frame,
)
from tests.fuzz.reference import Rules, Told, frames, told
from tests.fuzz.target import Target

NONCES = (b"readygat", b"readygb2")
MASK = b"\x0a\x0b\x0c\x0d"
_PING, _SECOND, _HOLD, _LIMIT, _TAP, _SKIP = 1, 2, 4, 8, 16, 32
_MESSAGE_BYTES = 125  # the least that may be set
_LOOKS = 6  # so many places of a stream that comes byte by byte are looked at


class Recorder:
    """A tap that keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes, bytes, bool]] = []

    def header(self, first: int, mask: bytes) -> None:
        self.seen.append((first, mask, b"", False))

    def payload(self, part: bytes) -> None:
        first, mask, so_far, _ = self.seen[-1]
        self.seen[-1] = (first, mask, so_far + part, False)

    def end(self) -> None:
        first, mask, payload, _ = self.seen[-1]
        self.seen[-1] = (first, mask, payload, True)


def pieces(data: bytes) -> list[bytes]:
    """Cut an input into its options and its frames."""
    head, wire = data[:2], data[2:]
    cut = [wire[each.begin : each.end] for each in frames(wire)]
    return [head, *cut, wire[sum(map(len, cut)) :]]


def check(data: bytes) -> None:
    options, chance = data[0] if data else 0, random.Random(data[:2])
    wire = data[2:]
    second = chance.randrange(len(wire) + 1)
    nonces = ((0, NONCES[0]),) if options & _PING else ()
    nonces += ((second, NONCES[1]),) if options & _SECOND else ()
    limit = _MESSAGE_BYTES if options & _LIMIT else None
    rules = Rules(nonces, bool(options & _HOLD), limit)
    some = sorted({chance.randrange(len(wire) + 1) for _ in range(chance.randrange(8))})
    looks = {chance.randrange(len(wire) + 1) for _ in range(_LOOKS)}
    for cuts, seen in (((), None), (some, None), (range(len(wire)), looks)):
        cut = {*cuts, *(place for place, _ in nonces)}
        walk(wire, rules, cut, seen, tap=bool(options & _TAP), skip=bool(options & _SKIP))


def walk(wire: bytes, rules: Rules, cuts: set[int], looks: set[int] | None, *, tap: bool, skip: bool) -> None:
    """Feed a stream cut at these places; look after each chunk, or only at the places `looks`.

    `skip`: what need not be walked passes by the walker, as when the kernel moves it.
    """
    walker, recorder, out = FrameWalker(), Recorder(), b""
    walker.hold_close, walker.message_bytes = rules.hold_close, rules.message_bytes
    walker.tap = recorder if tap else None
    at = 0
    for end in sorted({*cuts, len(wire)}):
        if end > at or end == 0:
            chunk = wire[at:end]
            past = min(walker.unseen, len(chunk)) if skip else 0
            walker.skip(past)
            out += chunk[:past] + walker.feed(chunk[past:])
            at = end
        if looks is None or end in looks or end == len(wire):
            must = told(wire[:end], rules)
            must.tapped = must.tapped if tap else []
            has = seen_of(walker, out, recorder)
            assert has == must, f"{has.beside(must)} after {end} of {len(wire)} bytes, cut at {sorted(cuts)}"
        for place, nonce in rules.nonces:
            if place == end:
                walker.expect_pong(nonce)


def seen_of(walker: FrameWalker, out: bytes, recorder: Recorder) -> Told:
    return Told(
        out,
        list(walker.notices),
        walker.text,
        walker.binary,
        walker.text_bytes,
        walker.binary_bytes,
        walker.frames,
        walker.settled,
        walker.at_boundary,
        walker.torso,
        walker.rest,
        walker.too_big,
        recorder.seen,
    )


TOKENS = (
    frame(PONG, NONCES[0]),
    frame(PONG, NONCES[0], mask=MASK),
    frame(PONG, NONCES[1], mask=MASK),
    frame(PONG, b"theirs"),
    frame(PING, b"theirs", mask=MASK),
    frame(PONG, bytes(130)),
    close_frame(1000, "bye", mask=MASK),
    close_frame(4000),
    frame(TEXT, b"words", mask=MASK),
    frame(TEXT, b"a", fin=False),
    frame(BINARY, b"b", fin=False),
    frame(CONTINUATION, b"c", fin=False),
    frame(CONTINUATION, b"d"),
    frame(BINARY, bytes(126)),
    frame(TEXT, bytes(100), fin=False, mask=MASK),
    b"\x83\x01x",
    b"\x88\x7e\x00\x02\x03\xe8",
    b"\x81\x7f" + bytes(7),
    b"\x81\xff\xff\xff",
)
TARGET = Target("walker", check, TOKENS, pieces, share=2.0, longest=1024, few=400)
