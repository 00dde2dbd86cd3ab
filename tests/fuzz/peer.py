"""One peer of a handshake: what it has put on its wire, and what a gate must make of that."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.core.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameWalker,
    close_frame,
    frame,
    parse_close,
)
from tests.fuzz.reference import Rules, Told, told

KINDS = (
    *(
        "pong",
        "text",
        "start",
        "rest",
        "ping",
        "unasked",
        "binary",
        "big",
        "reserved",
        "long close",
        "empty close",
    ),
    *("1000", "4401", "1011", "1013"),
)


@dataclass
class Peer:
    """What one peer has said. `unsent`: the rest of what it has begun to say."""

    mask: bytes | None
    up: bool = False  # its connection stands; for the upstream: and its 101 is through
    limit: int | None = None
    lost: bool = False
    paused: bool = False  # nothing more of it is read
    acked: bool = False
    heard_101: bool = False
    nonce: bytes | None = None  # the one that it may have been sent
    pinged: bytes | None = None
    at_101: int = 0  # so much of `sent` came before its 101
    sent: bytes = b""
    unsent: bytes = b""
    nonces: list[tuple[int, bytes]] = field(default_factory=list)
    _seen: tuple[int, int, Told] | None = None

    @property
    def can_say(self) -> bool:
        """Whether anything that it says is read."""
        return self.up and not self.lost and not self.paused and (self.closed is None or bool(self.unsent))

    def say(self, kinds: list[str], cut: int | None) -> bytes:
        """Return its next bytes: what it has begun to say, then these frames; the first `cut` of them."""
        self.unsent += b"".join(map(self._frame, kinds))
        size = len(self.unsent) if cut is None else min(max(cut, 1), len(self.unsent))
        data, self.unsent = self.unsent[:size], self.unsent[size:]
        self.sent += data
        return data

    def _frame(self, kind: str) -> bytes:
        if kind.isdecimal():
            return close_frame(int(kind), "why", mask=self.mask)
        opcode, payload, fin = {
            "pong": (PONG, self.pinged or b"unasked!", True),
            "text": (TEXT, b"words", True),
            "binary": (BINARY, bytes(9), True),
            "big": (TEXT, bytes(130), True),
            "start": (TEXT, b"a", False),
            "rest": (CONTINUATION, b"b", True),
            "ping": (PING, b"theirs", True),
            "unasked": (PONG, b"unasked!", True),
            "reserved": (3, b"x", True),
            "long close": (CLOSE, bytes(130), True),
            "empty close": (CLOSE, b"", True),
        }[kind]
        return frame(opcode, payload, mask=self.mask, fin=fin)

    def expects(self, nonce: bytes, place: int) -> None:
        """Note what marks its pong, from a place in what it says on."""
        self.nonce = nonce
        self.nonces.append((place, nonce))

    # -- what the gate must make of it ----------------------------------------------------------------------

    @property
    def rules(self) -> Rules:
        """How it is walked: the client's Close is held back, since the gate answers it."""
        return Rules(tuple(self.nonces), hold_close=self.mask is not None, message_bytes=self.limit)

    @property
    def seen(self) -> Told:
        """What a walker tells of all that it has sent."""
        key = (len(self.sent), len(self.nonces))
        if self._seen is None or self._seen[:2] != key:
            self._seen = (*key, told(self.sent, self.rules))
        return self._seen[2]

    @property
    def whole(self) -> bytes:
        """The whole frames that are to reach the other side."""
        return self.seen.out[: len(self.seen.out) - self.seen.torso]

    @property
    def closed(self) -> tuple[int, str] | None:
        """Its own Close."""
        return next((parse_close(each.payload) for each in self.seen.notices if each.opcode == CLOSE), None)

    @property
    def left(self) -> bool:
        return self.lost or self.closed is not None

    @property
    def ponged(self) -> bool:
        return any(each.own for each in self.seen.notices)

    @property
    def frames(self) -> int:
        """How many frames it began after its 101, our pongs not counted."""
        own = sum(each.own for each in self.seen.notices)
        return self.seen.settled - told(self.sent[: self.at_101], self.rules).settled - own

    def check_taken(self, taken: bytes, walker: FrameWalker) -> None:
        """All that came is passed on when the gate opens, and the relay goes on with what comes then."""
        assert taken == self.seen.out
        assert taken + walker.feed(self.unsent) == told(self.sent + self.unsent, self.rules).out
