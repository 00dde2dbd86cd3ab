"""Exchanges that hypothesis makes: well-formed ones of any mixture."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from tests.differential.exchange import Exchange
from tests.differential.writing import chunks

CHUNKED = b"Transfer-Encoding: chunked"
TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
# RFC 3986 has fewer; these are the bytes that a target passes with. `#` would not count as one everywhere.
TARGET = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/%<>[]{}|\\^`\""
# Names that mean something to a proxy or that come once; shapes has them.
MEANING = {
    *(
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ),
    *("expect", "sec-websocket-key1", "content-type", "content-length", "content-location", "content-range"),
    *("etag", "max-forwards", "server", "user-agent"),
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]


def _bytes(alphabet: bytes, most: int) -> st.SearchStrategy[bytes]:
    return st.text(alphabet.decode("latin-1"), max_size=most).map(lambda text: text.encode("latin-1"))


VISIBLE = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
names = st.one_of(
    st.sampled_from(
        ["Cookie", "cookie", "X-A", "x-a", "Accept", "Range", "X-Forwarded-Proto", "Vary", "Set-Cookie"]
    ),
    st.text(TOKEN, min_size=1, max_size=20),
).filter(lambda name: name.lower() not in MEANING)
values = st.tuples(
    st.sampled_from([b"", b" ", b"  ", b"\t"]),
    _bytes(VISIBLE + b" \t", 40),
    st.sampled_from([b"", b" ", b"\t "]),
).map(b"".join)
fields = st.lists(st.tuples(names.map(str.encode), values).map(b":".join), max_size=8)
targets = st.tuples(
    st.text(TARGET, max_size=40),
    st.one_of(st.just(""), st.text(TARGET + "?", max_size=40).map(lambda q: "?" + q)),
).map(lambda parts: ("/" + parts[0] + parts[1]).encode())
bodies = st.one_of(st.just(b""), st.binary(max_size=200), st.just(bytes(range(256)) * 300))
parts = st.lists(st.binary(min_size=1, max_size=60), max_size=5)
reasons = st.one_of(st.just(b""), _bytes(VISIBLE + b" \t", 20).map(lambda reason: b" " + reason))
hints = st.lists(fields.map(lambda lines: _head(b"HTTP/1.1 103 Early Hints", lines)), max_size=2)


def _head(line: bytes, lines: list[bytes]) -> bytes:
    return b"\r\n".join([line, *lines]) + b"\r\n\r\n"


@st.composite
def _framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Lines that frame a body, and the body."""
    if draw(st.booleans()):
        extension = draw(st.sampled_from([b"", b";a", b';a="b c";d=e']))
        trailers = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: 1\r\nA: 2\r\n"]))
        return [CHUNKED], chunks(*draw(parts), extension=extension, trailers=trailers)
    body = draw(bodies)
    return [b"Content-Length: %d" % len(body)], body


@st.composite
def _requests(draw: st.DrawFn) -> tuple[bytes, ...]:
    """A request, in some pieces."""
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    line = b" ".join([draw(st.sampled_from(METHODS)).encode(), draw(targets), version])
    lines, framing, body = draw(fields), [], b""
    if draw(st.booleans()):
        framing, body = draw(
            _framed().filter(lambda framed: version == b"HTTP/1.1" or framed[0] != [CHUNKED])
        )
    lines.insert(draw(st.integers(0, len(lines))), b"Host: shop.test")
    for each in framing:
        lines.insert(draw(st.integers(0, len(lines))), each)
    wire = _head(line, lines) + body
    cuts = sorted(draw(st.lists(st.integers(1, len(wire)), max_size=3)))
    return tuple(filter(None, (wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True))))


@st.composite
def _answers(draw: st.DrawFn, method: bytes) -> tuple[str | bytes, ...]:
    """What the backend does: hints, then a response, in one piece or two."""
    status = draw(st.sampled_from([200, 201, 204, 206, 301, 304, 400, 404, 418, 500, 503, 799]))
    line = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"])) + b" %d" % status + draw(reasons)
    lines, body, ends = draw(fields), b"", False
    if method == b"HEAD" or status in {204, 304}:
        lines += draw(st.sampled_from([[], [b"Content-Length: 5"]]))
    elif draw(st.booleans()) or not line.startswith(b"HTTP/1.1"):
        body = draw(bodies)
        ends = draw(st.booleans())
        lines += [] if ends else [b"Content-Length: %d" % len(body)]
    else:
        framing, body = draw(_framed())
        lines += framing
    wire = b"".join(draw(hints)) + _head(line, lines) + body
    cut = draw(st.integers(0, len(wire)))
    return ("body", wire[:cut], wire[cut:], *(["close"] if ends else []))


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """A whole exchange."""
    acts = draw(_requests())
    method = b"".join(acts).partition(b" ")[0]
    return Exchange("made", acts, draw(_answers(method)))
