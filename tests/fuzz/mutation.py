"""Inputs made of seeds by chance, always the same ones for the same seed number; and failing ones made short.

No coverage guides this: it is what `make test` runs for a moment, and `make fuzz` where atheris is not to be
had. Where it is, its guidance is mixed with these steps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from tests.fuzz.target import Target

_STEPS = 6


def mutated(target: Target, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return a new input: one of `seeds` after a few steps."""
    data = chance.choice(seeds)
    for _ in range(chance.randint(1, _STEPS)):
        data = step(target, data, chance.choice(seeds), chance)
    return data[: target.longest]


def step(target: Target, data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change something: whole pieces, which keeps most of the grammar, or bytes, which breaks it."""
    return (
        _in_pieces(target, data, other, chance) if chance.random() < 0.5 else _in_bytes(target, data, chance)
    )


def _in_pieces(target: Target, data: bytes, other: bytes, chance: random.Random) -> bytes:
    pieces = target.pieces(data)
    at = chance.randrange(len(pieces) + 1)
    what = chance.randrange(5)
    if what == 0 and pieces:
        del pieces[at - 1]
    elif what == 1 and pieces:
        pieces.insert(at, chance.choice(pieces))
    elif what == 2 and len(pieces) > 1:
        here = chance.randrange(len(pieces))
        pieces[here], pieces[at - 1] = pieces[at - 1], pieces[here]
    elif what == 3 and target.tokens:
        pieces.insert(at, chance.choice(target.tokens))
    else:
        theirs = target.pieces(other)
        pieces[at:] = theirs[chance.randrange(len(theirs) + 1) :]
    return b"".join(pieces)


def _in_bytes(target: Target, data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    size = min(chance.choice((1, 1, 1, 2, 4, 16, 64)), len(data) - at)
    what = chance.randrange(6)
    if what == 0:
        return data[:at] + data[at + size :]
    if what == 1:
        return data[:at] + chance.randbytes(chance.choice((1, 1, 2, 8))) + data[at:]
    if what == 2 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if what == 3 and at < len(data):
        return (
            data[:at] + bytes([chance.choice((0, 1, 9, 10, 13, 32, 44, 125, 126, 127, 255))]) + data[at + 1 :]
        )
    if what == 4:
        return data[:at] + data[at : at + size] * chance.choice((2, 3, 20)) + data[at + size :]
    token = chance.choice(target.tokens or (b"\0",))
    return data[:at] + token + data[at + chance.choice((0, len(token))) :]


def shortest(data: bytes, breaks: Callable[[bytes], bool], seconds: float) -> bytes:
    """Return an input as short as can be found in that time that `breaks` what `data` does."""
    end = time.monotonic() + seconds
    size = max(len(data) // 2, 1)
    while size and time.monotonic() < end:
        at, before = 0, len(data)
        while at < len(data) and time.monotonic() < end:
            less = data[:at] + data[at + size :]
            if breaks(less):
                data = less
            else:
                at += size
        if size == 1 and len(data) == before:
            break
        size = max(size // 2, 1)
    return data
