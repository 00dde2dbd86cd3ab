"""HTTP/1.1 messages read the strict way (RFC 9112): what the gate says must be readable like this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

Pair = tuple[bytes, bytes]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.1")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*([\t \x21-\x7e\x80-\xff]*?)[\t ]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Head:
    """A message head. `start`: its start line's parts."""

    start: tuple[bytes, ...]
    fields: tuple[Pair, ...]

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response. `whole`: its body has come to its end."""

    status: int
    reason: bytes
    head: Head
    body: bytes = b""
    whole: bool = True


def request_head(raw: bytes) -> Head:
    """Read a request head that must be fit to be passed on. AssertionError says why it is not."""
    head = _head(raw, _REQUEST)
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1, "its end can be seen in one way only (RFC 9112 6.3)"
    assert all(re.fullmatch(rb"[0-9]+", each) for each in lengths)
    assert all(each.lower() == b"chunked" for each in codings)
    assert len(head.values(b"host")) == 1, "RFC 9112 3.2"
    return head


def replies(raw: bytes, *, over: bool, bodyless: bool = False) -> Iterator[Reply]:
    """Read responses one after the other. `over`: nothing more will come. `bodyless`: a HEAD may be among
    the requests, so that a body may be missing where another response, or the end, comes instead.
    """
    while raw:
        end = raw.find(b"\r\n\r\n")
        assert end >= 0, f"half a head: {raw[:200]!r}"
        head = _head(raw[: end + 4], _STATUS)
        raw = raw[end + 4 :]
        status = int(head.start[1])
        if status == 101:
            yield Reply(status, head.start[2], head, raw)
            return
        if status < 200 or status in {204, 304}:
            yield Reply(status, head.start[2], head)
            continue
        if bodyless and (not raw or raw.startswith(b"HTTP/1.")):
            yield Reply(status, head.start[2], head)
            continue
        body, raw, whole = _body(head, raw, over=over)
        yield Reply(status, head.start[2], head, body, whole)


def _head(raw: bytes, start: re.Pattern[bytes]) -> Head:
    assert raw.endswith(b"\r\n\r\n"), "a head ends with an empty line"
    first, *lines = raw[:-4].split(b"\r\n")
    match = start.fullmatch(first)
    assert match is not None, f"no start line: {first[:200]!r}"
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        assert field is not None, f"no field: {line[:200]!r}"
        fields.append((field[1], field[2]))
    return Head(tuple(match.groups()), tuple(fields))


def _body(head: Head, raw: bytes, *, over: bool) -> tuple[bytes, bytes, bool]:
    codings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
    assert len(codings) + len(lengths) <= 1, "RFC 9112 6.3"
    if lengths:
        assert re.fullmatch(rb"[0-9]+", lengths[0]), lengths
        size = int(lengths[0])
        return raw[:size], raw[size:], len(raw) >= size
    if not codings:
        return raw, b"", over
    assert codings[0].lower() == b"chunked", codings
    body = b""
    while chunk := _CHUNK.match(raw):
        size = int(chunk[1], 16)
        part, raw = raw[chunk.end() : chunk.end() + size], raw[chunk.end() + size :]
        body += part
        if not size:
            end = raw.find(b"\r\n") + 2
            return body, raw[end:], True
        if len(part) < size or len(raw) < 2:
            return body, b"", False
        assert raw.startswith(b"\r\n"), "a chunk ends where it says"
        raw = raw[2:]
    assert re.fullmatch(rb"[0-9A-Fa-f]*\r?", raw), f"no chunk: {raw[:100]!r}"
    return body, b"", False
