"""What a walker must tell of a stream, said the simple way: all that came so far is parsed at once.

Nothing here remembers anything between two looks, so nothing can depend on where a stream was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from proxy.core.frames import BINARY, CLOSE, PONG, TEXT, TOO_BIG, Control

_LONGEST = 125  # RFC 6455 5.5
_READ = 126  # so much is read of a control frame: enough to see that it is too long


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose header is whole, where it lies, and as much of its payload as has come, unmasked."""

    begin: int
    body: int
    end: int
    first: int
    mask: bytes
    raw: bytes
    payload: bytes
    whole: bool

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def fin(self) -> bool:
        return self.first >= 0x80

    @property
    def control(self) -> bool:
        return self.opcode >= 8


@dataclass(frozen=True, slots=True)
class Rules:
    """What a walker was told to do. `nonces`: our pings, each with the place at which it went."""

    nonces: tuple[tuple[int, bytes], ...] = ()
    hold_close: bool = False
    message_bytes: int | None = None


@dataclass(slots=True)
class Told:
    """All that can be seen of a walker."""

    out: bytes = b""
    notices: list[Control] = field(default_factory=list)
    text: int = 0
    binary: int = 0
    text_bytes: int = 0
    binary_bytes: int = 0
    frames: int = 0
    settled: int = 0
    at_boundary: bool = True
    torso: int = 0
    rest: int = 0
    too_big: bool = False
    tapped: list[tuple[int, bytes, bytes, bool]] = field(default_factory=list)

    def beside(self, must: Told) -> str:
        """Say in what this differs from what it must be."""
        both = [(each.name, getattr(self, each.name), getattr(must, each.name)) for each in fields(Told)]
        return ", ".join(f"{name} is {has!r}, not {due!r}" for name, has, due in both if has != due)


def frames(wire: bytes) -> Iterator[Frame]:
    """Yield the frames of a stream whose headers are whole (RFC 6455 5.2)."""
    at = 0
    while len(wire) >= at + 2:
        first, second = wire[at], wire[at + 1]
        wide = {126: 2, 127: 8}.get(second & 0x7F, 0)
        masked = 4 if second & 0x80 else 0
        body = at + 2 + wide + masked
        if len(wire) < body:
            return
        size = int.from_bytes(wire[at + 2 : at + 2 + wide], "big") if wide else second & 0x7F
        mask = wire[body - masked : body]
        raw = wire[body : body + size]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(raw)) if masked else raw
        yield Frame(at, body, body + size, first, mask, raw, payload, len(wire) >= body + size)
        at = body + size


def told(wire: bytes, rules: Rules) -> Told:
    """Return what a walker must have told when `wire` has come."""
    seen, said = Told(), _Messages(rules.message_bytes)
    used: set[bytes] = set()
    shut = held = False
    at = 0

    def doubtful(begin: int, body: int, opcode: int) -> bool:
        # With a limit, headers are kept back until they are whole: a ping may come meanwhile.
        until = begin if rules.message_bytes is None else body - 1
        pinged = any(place <= until and nonce not in used for place, nonce in rules.nonces)
        return (opcode == PONG and pinged) or (opcode == CLOSE and rules.hold_close)

    for frame in frames(wire):
        at = frame.end
        seen.frames += 1
        short = frame.end - frame.body <= _LONGEST
        held = doubtful(frame.begin, frame.body, frame.opcode) and short
        cut = False
        if not frame.control:
            seen.tapped.append((frame.first, frame.mask, frame.raw, frame.whole))
            if said.begun(frame) and not seen.too_big:
                seen.too_big = shut = True
                seen.notices.append(Control(TOO_BIG, b""))
            textual = said.kind(frame) == TEXT
            seen.text_bytes += len(frame.raw) * textual
            seen.binary_bytes += len(frame.raw) * (not textual)
            if frame.whole:
                kind = said.ended(frame)
                seen.text += kind == TEXT
                seen.binary += kind not in {TEXT, None}
        elif frame.whole:
            payload = frame.payload[:_READ]
            pings = {nonce for place, nonce in rules.nonces if place < frame.end}
            own = frame.opcode == PONG and payload in pings - used
            used |= {payload} if own else set()
            if own or frame.opcode == CLOSE:
                seen.notices.append(Control(frame.opcode, payload, own))
            closed = frame.opcode == CLOSE and rules.hold_close and short
            cut = (own and held) or closed
            if closed:
                seen.settled = seen.frames
                return seen
        if frame.whole:
            held = False
        if not shut and not held and not cut:
            seen.out += wire[frame.begin : frame.end]
            seen.torso = 0 if frame.whole else len(wire) - frame.begin
    begun = wire[at:]
    if begun:
        in_doubt = doubtful(at, at, begun[0] & 0x0F) or rules.message_bytes is not None
        if not shut and not in_doubt:
            seen.out += begun
            seen.torso = len(begun)
    seen.rest = max(at - len(wire), int(bool(begun)))
    seen.at_boundary = seen.torso == 0
    seen.settled = seen.frames - held
    return seen


class _Messages:
    """Which message a data frame belongs to (RFC 6455 5.4), and how long that is.

    A message of one frame stands for itself, also where it may not stand: between the fragments of another.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._kind, self._size = TEXT, 0

    def begun(self, frame: Frame) -> bool:
        """Note a frame's header; return whether its message is too long."""
        size = frame.end - frame.body
        if frame.opcode and frame.fin:
            return self._most is not None and size > self._most
        if frame.opcode:
            self._kind, self._size = frame.opcode, 0
        self._size += size
        return self._most is not None and self._size > self._most

    def kind(self, frame: Frame) -> int:
        """Return the kind of the message that a frame, which has begun, is part of."""
        return frame.opcode or self._kind

    def ended(self, frame: Frame) -> int | None:
        """Note a whole frame; return the kind of the message that it ends, None if it ends none."""
        if not frame.fin:
            return None
        if frame.opcode:
            return TEXT if frame.opcode == TEXT else BINARY
        kind, self._kind, self._size = self._kind, TEXT, 0
        return TEXT if kind == TEXT else BINARY
