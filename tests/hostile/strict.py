"""Reads what a backend got as the strictest server would: what two readers may take differently raises.

RFC 9112 to the letter, and less than it allows a server: CRLF only, one space, tokens, no fold, no control
character, one framing field at most, chunks without extensions or trailers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Pair = tuple[bytes, bytes]
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.[01]")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ?([\t\x20-\x7e\x80-\xff]*)")
VISIBLE, INSIDE = rb"[\x21-\x7e\x80-\xff]", rb"[\t\x20-\x7e\x80-\xff]"
FIELD = re.compile(rb"(" + TOKEN + rb"): ?((?:" + VISIBLE + rb"(?:" + INSIDE + rb"*" + VISIBLE + rb")?)?)")
LENGTH = re.compile(rb"\d{1,19}")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
END = b"\r\n\r\n"
# What backends that turn all but letters and digits into underscores would take for the field itself.
ODD = re.compile(rb"[^0-9A-Za-z-]")
ALIASED = re.compile(rb"(?i)content-length|transfer-encoding|x-forwarded-.+|sec-websocket-.+")


class AmbiguousError(Exception):
    """Two readers might not agree on these bytes."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request (`start`: method and target) or a response (`start`: status and reason)."""

    start: tuple[bytes, bytes]
    fields: tuple[Pair, ...]
    length: int | None
    chunked: bool

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def is_upgrade(self) -> bool:
        """Whether what follows is no HTTP, if the other side agrees: a request for it, or a 101."""
        return bool(self.all(b"upgrade")) and self.start[0] in {b"GET", b"101"}


def head(raw: bytes, line: re.Pattern[bytes] = REQUEST_LINE) -> Message:
    """Read a head without its empty line."""
    first, *rest = raw.split(b"\r\n")
    start = line.fullmatch(first)
    fields = [FIELD.fullmatch(each) for each in rest]
    if start is None or not all(fields):
        raise AmbiguousError(raw)
    pairs = tuple((field[1], field[2]) for field in fields if field)
    return framed(Message((start[1], start[2]), pairs, None, False))


def framed(message: Message) -> Message:
    """Return it with its framing."""
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    for name, _ in message.fields:
        if ODD.search(name) and ALIASED.fullmatch(ODD.sub(b"-", name)):
            raise AmbiguousError(name)
    if len(lengths) + len(codings) > 1 or len(message.all(b"host")) > 1:
        raise AmbiguousError(message)
    if codings and codings[0].lower() != b"chunked":
        raise AmbiguousError(message)
    if lengths and not LENGTH.fullmatch(lengths[0]):
        raise AmbiguousError(message)
    return Message(message.start, message.fields, int(lengths[0]) if lengths else None, bool(codings))


class Strict:
    """Reads one direction of a connection, chunk by chunk. What is behind an upgrade is left in `rest`."""

    def __init__(self, line: re.Pattern[bytes] = REQUEST_LINE) -> None:
        self._line = line
        self._buffer = bytearray()
        self._left = 0  # of a body or a chunk with its CRLF
        self._chunked = False
        self.upgraded = False

    @property
    def rest(self) -> bytes:
        """What came and was not read yet; taken away."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    @property
    def whole(self) -> bool:
        """Whether what came ends where a message ends."""
        return not (self._buffer or self._left or self._chunked)

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages whose heads ended in this chunk. Raise AmbiguousError."""
        self._buffer += data
        found = []
        while not self.upgraded and self._buffer:
            if self._left:
                if not self._body():
                    break
            elif self._chunked:
                if not self._chunk_size():
                    break
            elif (message := self._head()) is not None:
                found.append(message)
            else:
                break
        return found

    def _head(self) -> Message | None:
        end = self._buffer.find(END)
        if end < 0:
            return None
        message = head(bytes(self._buffer[:end]), self._line)
        del self._buffer[: end + len(END)]
        self._left, self._chunked = message.length or 0, message.chunked
        self.upgraded = message.is_upgrade
        return message

    def _body(self) -> bool:
        taken = min(self._left, len(self._buffer))
        if self._chunked and taken == self._left and self._buffer[taken - 2 : taken] != b"\r\n":
            raise AmbiguousError(bytes(self._buffer[:taken]))
        if self._chunked and taken < self._left:
            return False  # the CRLF of a chunk is looked at as a whole
        del self._buffer[:taken]
        self._left -= taken
        return True

    def _chunk_size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        if not CHUNK_SIZE.fullmatch(line):
            raise AmbiguousError(line)
        size = int(line, 16)
        if size == 0:
            if len(self._buffer) < end + 4:
                return False
            if self._buffer[end : end + 4] != END:
                raise AmbiguousError(bytes(self._buffer))
            del self._buffer[: end + 4]
            self._chunked = False
        else:
            del self._buffer[: end + 2]
            self._left = size + 2
        return True
