"""WebSocket frames as a proxy needs them: headers are walked, payload passes untouched (RFC 6455 section 5).

`FrameWalker` follows one direction of a leg. It never joins, unmasks or copies payload, with one exception:
control frames (at most 125 bytes), whose payload it reads to find our own pongs and the Close code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
TOO_BIG: Final = -1  # no opcode: the notice that a message is over the walker's limit

NO_CODE: Final = 1005  # RFC 6455 7.4.1: "no status code was actually present"
LOST: Final = 1006  # RFC 6455 7.4.1: "the connection was closed abnormally"

_MAX_CONTROL: Final = (
    125  # RFC 6455 5.5: "All control frames MUST have a payload length of 125 bytes or less"
)
_MAX_HEADER: Final = 14
_ANY_LENGTH: Final = 1 << 64
# By the first byte of a frame: TEXT or BINARY if it is a message of one frame, else 0.
_KIND: Final = tuple(first & 0x0F if first & 0x8F in (0x81, 0x82) else 0 for first in range(256))
# By its second byte: how long it is, header and all, if its payload is at most 125 bytes; else 0.
_WHOLE: Final = tuple(
    (second & 0x7F) + (6 if second & 0x80 else 2) if second & 0x7F < 126 else 0 for second in range(256)
)
_UNTOLD: Final = frozenset({PING, PONG})
_PINGS: Final = 4  # so many of our pings may be unanswered and still be known when their pongs come


@dataclass(frozen=True, slots=True)
class Control:
    """A whole control frame that went by. `payload` is unmasked; `own` marks a pong that answers our ping."""

    opcode: int
    payload: bytes
    own: bool = False


class Tap(Protocol):
    """Sees the data frames of a walker while it is set; used to look for an announcement."""

    def header(self, first: int, mask: bytes) -> None:
        """Note a data frame's first byte (FIN, RSV, opcode) and masking key (empty: not masked)."""

    def payload(self, part: bytes) -> None:
        """Take the next piece of that frame's payload, still masked."""

    def end(self) -> None:
        """Note that the frame is whole."""


def mask_payload(payload: bytes, key: bytes) -> bytes:
    """Apply (or take off: it is its own inverse) a 4-byte masking key (RFC 6455 5.3)."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(opcode: int, payload: bytes = b"", *, mask: bytes | None = None, fin: bool = True) -> bytes:
    """Build one frame. `mask`: 4 random bytes towards a server, None towards a client (RFC 6455 5.1)."""
    size = len(payload)
    bit = 0 if mask is None else 0x80
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + mask_payload(payload, mask)


def close_frame(code: int, reason: str = "", *, mask: bytes | None = None) -> bytes:
    """Build a Close frame, see `close_payload`."""
    return frame(CLOSE, close_payload(code, reason), mask=mask)


def close_payload(code: int, reason: str = "") -> bytes:
    """Build the payload of a Close; the reason is cut to what fits, at a character.

    `NO_CODE` gives an empty one. Codes that "MUST NOT be set ... in a Close control frame" (1005, 1006 and
    1015, RFC 6455 7.4.1) never go onto the wire: 1006 and 1015 become 1011.
    """
    if code == NO_CODE:
        return b""
    code = 1011 if code in {LOST, 1015} else code
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def parse_close(payload: bytes) -> tuple[int, str]:
    """Read a Close payload: (code, reason). Empty: `NO_CODE`. One lone byte, which is an error: 1002."""
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        return 1002, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")


class FrameWalker:
    """Walk the frame headers of one direction, over chunks cut at any byte.

    Call `feed` with each chunk and pass on what it returns. After it, `notices` holds the Close frames and
    our own pongs that became whole (with `controls=True`, all control frames; the caller empties it), and the
    counts are up to date: `text` and `binary` whole messages, `text_bytes` and `binary_bytes` of payload in
    data frames, `frames` of all kinds.

    `expect_pong` makes it look for our own pongs, which are cut out of what `feed` returns. With `hold_close`
    set, the first Close frame and all behind it are kept back too: the caller speaks for the peer from then.
    (A Close longer than a control frame may be is as little one as any garbage is, and passes.)
    With `message_bytes` (at least 125) set, the first frame that makes a message longer than that, and all
    behind it, are walked but kept back as well; a notice `TOO_BIG` tells, and `too_big` stays set.
    Frames that break the RFC are walked by their declared length and passed on: the endpoints judge them.
    """

    __slots__ = (
        "_closed", "_controls", "_first", "_grab", "_head", "_held", "_kind", "_left", "_mask", "_message",
        "_nonces", "_others", "_plain", "_shut", "_span", "_tap", "_textual",
        "binary", "binary_bytes", "hold_close", "message_bytes", "notices", "text", "text_bytes", "too_big",
    )  # fmt: skip

    def __init__(self, *, controls: bool = False) -> None:
        self._controls = controls
        self._left = 0  # payload bytes still to come of the frame that we are in
        self._span = 0  # header and payload of that frame, in bytes
        self._head = b""  # a header cut short by the end of a chunk
        self._first = 0  # first byte (FIN, RSV, opcode) of the frame that we are in
        self._mask = b""
        self._textual = True  # whether that frame is of a text message
        self._kind = TEXT  # opcode of the fragmented message that we are in
        self._grab: bytearray | None = None  # payload of a control frame, while inside one
        self._held: bytearray | None = None  # a frame that may not be passed on, from earlier chunks
        self._nonces: tuple[bytes, ...] = ()
        self._closed = False  # a Close was held back
        self._shut = False  # nothing passes any more
        self._message = 0  # payload bytes of it so far, by its frames' headers
        self.hold_close = self.too_big = False
        self.message_bytes: int | None = None
        self._tap: Tap | None = None
        self._plain = True  # nothing of the above but a data frame is under way, and nothing is looked for
        self._others = 0  # frames begun that are no whole message: control, fragments, the one under way
        self.notices: list[Control] = []
        self.text = self.binary = self.text_bytes = self.binary_bytes = 0

    @property
    def messages(self) -> int:
        """Whole data messages so far."""
        return self.text + self.binary

    @property
    def payload_bytes(self) -> int:
        """Payload in data frames so far."""
        return self.text_bytes + self.binary_bytes

    @property
    def frames(self) -> int:
        """Frames begun so far, of all kinds."""
        return self.text + self.binary + self._others

    @property
    def tap(self) -> Tap | None:
        """What sees the data frames."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = tap
        self._plain = self._is_plain()

    def _is_plain(self) -> bool:
        return not (self._head or self._shut or self._grab is not None or self._tap is not None)

    @property
    def at_boundary(self) -> bool:
        """Whether a frame of our own may be put in here: no frame has been passed on in part."""
        return self._shut or self._held is not None or not (self._left or self._head)

    @property
    def torso(self) -> int:
        """How many of the bytes passed on last belong to a frame that is not whole yet."""
        if self._held is not None or self._shut:
            return 0
        return self._span - self._left if self._left else len(self._head)

    @property
    def rest(self) -> int:
        """How many bytes of the frame that we are in are still to come; 0 between frames, 1 in a header."""
        return self._left or bool(self._head)

    @property
    def unseen(self) -> int:
        """How many bytes of payload may pass next without being fed, and then told to `skip`."""
        return self._left if self._plain else 0

    def skip(self, size: int) -> None:
        """Take it that so many bytes have passed; at most `unseen`."""
        self._left -= size
        self._count_payload(size)
        if size and not self._left:
            self._end_frame()

    @property
    def settled(self) -> int:
        """Frames begun, without one that is kept back until it is clear whether it is to be cut out."""
        return self.frames - (self._held is not None and not self._head)

    def expect_pong(self, nonce: bytes) -> None:
        """Cut the pong that carries `nonce` out of the stream, unless it comes `_PINGS` pings too late."""
        self._nonces = (*self._nonces[1 - _PINGS :], nonce)

    def feed(self, data: bytes) -> bytes:
        """Walk `data`; return what is to be passed on: `data` itself, unless something is kept back."""
        size = len(data)
        if self._plain:
            if size > 1 and not self._left:  # one whole short message, by far the most common chunk
                second = data[1]
                kind = _KIND[data[0]]
                if kind and size == _WHOLE[second]:
                    if kind == TEXT:
                        self.text += 1
                        self.text_bytes += second & 0x7F
                    else:
                        self.binary += 1
                        self.binary_bytes += second & 0x7F
                    return data
            pos = self._run(data, size)
            if pos == size:
                return data
        elif self._shut:
            if not self._closed:
                self._walk(data, size, 0)
            return b""
        else:
            pos = 0
        out = self._walk(data, size, pos)
        self._plain = self._is_plain()
        return out

    def _run(self, data: bytes, size: int) -> int:  # noqa: C901 - one loop, its state is local
        """Walk the rest of a data frame, then whole messages of one frame and untold pings; return their end.

        Most chunks hold nothing else: a short message, a run of them, a piece of a long one. So this is done
        with local variables only.
        """
        pos = self._left
        if pos > size:  # in the middle of a long frame
            self._left = pos - size
            self._count_payload(size)
            return size
        if pos:
            self._left = 0
            self._count_payload(pos)
            self._end_frame()
        payload = textual = frames = texts = 0
        most = self.message_bytes or _ANY_LENGTH
        while size - pos > 1:
            kind, second = _KIND[data[pos]], data[pos + 1]
            if not kind:
                end = pos + _WHOLE[second]
                opcode = data[pos] & 0x8F ^ 0x80
                if end == pos or end > size or opcode not in _UNTOLD or self._controls:
                    break  # a fragment, a Close, or one that is cut or too long
                if opcode == PONG and self._nonces:
                    break
                self._others += 1
                pos = end
                continue
            length = second & 0x7F
            begin = pos + 2 if second < 0x80 else pos + 6
            if length > 125:
                wide = 2 if length == 126 else 8
                begin += wide
                length = int.from_bytes(data[pos + 2 : pos + 2 + wide], "big")
            if begin > size or length > most:
                break
            end = begin + length
            if end > size:
                self._others += 1
                self._first = data[pos]
                self._span, self._left = end - pos, end - size
                self._textual = kind == TEXT
                self._count_payload(size - begin)
                pos = size
                break
            frames += 1
            payload += length
            if kind == TEXT:
                texts += 1
                textual += length
            pos = end
        self.text_bytes += textual
        self.binary_bytes += payload - textual
        self.text += texts
        self.binary += frames - texts
        return pos

    def _walk(self, data: bytes, size: int, pos: int) -> bytes:  # noqa: C901, PLR0912 - one loop, its state is local
        """Walk any chunk from `pos` on; what is before it passes.

        `keep`: where what passes unchanged starts; `hold`: where a frame in doubt does.
        """
        out: list[bytes] = []
        keep = hold = 0
        while pos < size:
            if self._left:
                pos = self._payload(data, pos, size)
            else:
                if not self._head and self._doubtful(data[pos]):
                    out.append(data[keep:pos])
                    self._held, hold = bytearray(), pos
                begin, before = pos, self.too_big
                pos = self._header(data, pos, size)
                if self.too_big and not before:
                    if self._held is None:
                        out.append(data[keep:begin])
                    self._held = None
                    self._walk(data[pos:], size - pos, 0)
                    return b"".join(out)
            if self._left or self._head:
                continue
            cut = self._end_frame()
            if self._held is not None:
                if not cut:
                    out.append(bytes(self._held))
                keep, self._held = (pos if cut else hold), None
            if self._closed:
                return b"".join(out)
        if self._held is not None:
            if not self._holdable():
                out += (bytes(self._held), data[hold:])
                self._held = None
            else:
                self._held += data[hold:]
        elif self._head and self.message_bytes is not None:
            self._held = bytearray(self._head)  # until it is clear how long that frame is
            out.append(data[keep : size - len(self._head)])
        elif not out and not keep:
            return data
        else:
            out.append(data[keep:])
        return b"".join(out)

    def _doubtful(self, first: int) -> bool:
        opcode = first & 0x0F
        return (opcode == PONG and bool(self._nonces)) or (opcode == CLOSE and self.hold_close)

    def _holdable(self) -> bool:
        """Whether the frame in doubt stays so. One that cannot be what we look for is passed on."""
        if self._head:
            return True
        short = self._grab is not None and len(self._grab) + self._left <= _MAX_CONTROL
        return short and self._doubtful(self._first)

    def _header(self, data: bytes, pos: int, size: int) -> int:
        """Read a header, or keep what there is of it; return the position behind it."""
        had = len(self._head)
        head = self._head + data[pos : pos + _MAX_HEADER - had]
        need = 2
        if len(head) > 1:
            length = head[1] & 0x7F
            need += (4 if head[1] & 0x80 else 0) + {126: 2, 127: 8}.get(length, 0)
        if len(head) < need or len(head) < 2:
            self._head = head
            return size
        masked = bool(head[1] & 0x80)
        self._left = length if length < 126 else int.from_bytes(head[2 : need - 4 if masked else need], "big")
        self._span = need + self._left
        self._mask = head[need - 4 : need] if masked else b""
        self._first = head[0]
        self._head = b""
        self._others += 1
        if head[0] & 0x08:
            self._grab = bytearray()
        else:
            opcode, message = head[0] & 0x0F, self._left
            if not opcode or head[0] < 0x80:  # a fragment
                if opcode:
                    self._kind, self._message = opcode, 0
                self._message += message
                message = self._message
            self._textual = (opcode or self._kind) == TEXT
            if self.message_bytes is not None and message > self.message_bytes and not self.too_big:
                self._shut = self.too_big = True
                self.notices.append(Control(TOO_BIG, b""))
            if self._tap is not None:
                self._tap.header(head[0], self._mask)
        return pos + need - had

    def _payload(self, data: bytes, pos: int, size: int) -> int:
        end = min(pos + self._left, size)
        self._left -= end - pos
        if self._grab is not None:
            self._grab += data[pos : min(end, pos + _MAX_CONTROL + 1 - len(self._grab))]
        else:
            self._count_payload(end - pos)
            if self._tap is not None:
                self._tap.payload(data[pos:end])
        return end

    def _count_payload(self, size: int) -> None:
        if self._textual:
            self.text_bytes += size
        else:
            self.binary_bytes += size

    def _end_frame(self) -> bool:
        """Count a whole frame; return True if it is to be cut out."""
        if self._grab is not None:
            return self._end_control(bytes(self._grab))
        # RFC 6455 5.4: a message ends with the frame whose FIN bit is set; its type is its first frame's.
        if self._first & 0x80:
            self._others -= 1
            kind = self._first & 0x0F
            if not kind:
                kind = self._kind
                self._kind, self._message = TEXT, 0
            if kind == TEXT:
                self.text += 1
            else:
                self.binary += 1
        if self._tap is not None:
            self._tap.end()
        return False

    def _end_control(self, payload: bytes) -> bool:
        self._grab = None
        payload = mask_payload(payload, self._mask) if self._mask else payload
        opcode = self._first & 0x0F
        own = opcode == PONG and payload in self._nonces
        if own:
            self._nonces = tuple(nonce for nonce in self._nonces if nonce != payload)
        if own or opcode == CLOSE or self._controls:
            self.notices.append(Control(opcode, payload, own))
        if opcode == CLOSE and self.hold_close and len(payload) <= _MAX_CONTROL:
            self._closed = self._shut = True
        return own or self._closed
