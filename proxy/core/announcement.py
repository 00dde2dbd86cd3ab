"""Listening for the application's own "I am ready": the first message, or the one whose JSON says so.

Sits on a `FrameWalker` as its tap. The message is held and forwarded like any other; this only reads along,
takes off masks (RFC 6455 5.3), and inflates compressed messages (RFC 7692 7.2.2), all within bounds.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from proxy.core.frames import TEXT, mask_payload

if TYPE_CHECKING:
    from proxy.core.plan import JsonMatch

_MAX_MESSAGE: Final = 1 << 16  # an announcement is short; longer messages are not one
_FIN: Final = 0x80
_RSV1: Final = 0x40
_TAIL: Final = b"\x00\x00\xff\xff"  # RFC 7692 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end"


class Announcement:
    """Reads along until a message announces readiness; then `heard` is True and stays so."""

    __slots__ = ("_fin", "_inflate", "_key", "_kind", "_match", "_parts", "_rsv1", "_size", "heard")

    def __init__(self, match: JsonMatch | None) -> None:
        self._match = match
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._parts: list[bytes] = []
        self._size = 0
        self._key = b""
        self._fin = self._rsv1 = False
        self._kind = TEXT
        self.heard = False

    def header(self, first: int, mask: bytes) -> None:
        """Start a data frame (`frames.Tap`)."""
        self._fin, self._key = bool(first & _FIN), mask
        if first & 0x0F:
            self._kind, self._rsv1 = first & 0x0F, bool(first & _RSV1)
            self._parts, self._size = [], 0

    def payload(self, part: bytes) -> None:
        """Take a piece of it (`frames.Tap`)."""
        self._size += len(part)
        if self._match is None or self._size > _MAX_MESSAGE:
            return
        if self._key:
            turn = len(part) % 4
            self._parts.append(mask_payload(part, self._key))
            self._key = self._key[turn:] + self._key[:turn]
        else:
            self._parts.append(part)

    def end(self) -> None:
        """Judge the message if this was its last frame (`frames.Tap`)."""
        if self._fin and not self.heard:
            self.heard = self._match is None or self._matches(self._match)
            self._parts = []

    def _matches(self, match: JsonMatch) -> bool:
        text = self._inflated() if self._rsv1 else b"".join(self._parts)
        if self._kind != TEXT or self._size > _MAX_MESSAGE:
            return False
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            return False
        for key in match.path:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return type(value) is type(match.equals) and bool(value == match.equals)

    def _inflated(self) -> bytes:
        """Return the message inflated, or nothing of one that is broken or too long.

        After such a one, or a final block, the inflater starts anew: the shared window is out of step from
        there on, but messages that came without context takeover are still heard.
        """
        inflate, text = self._inflate, b""
        if intact := self._size <= _MAX_MESSAGE:
            try:
                text = inflate.decompress(b"".join((*self._parts, _TAIL)), _MAX_MESSAGE)
                intact = not inflate.unconsumed_tail
            except zlib.error:
                intact = False
        if not intact or inflate.eof:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return text if intact else b""
