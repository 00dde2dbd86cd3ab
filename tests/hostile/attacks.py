"""What a hostile client says in HTTP, and what becomes of it. Used by the tests and by the siege.

`SMUGGLED` stands behind or inside many of them: it must never reach the backend as a request of its own,
unless it was said as one.
"""

from __future__ import annotations

from dataclasses import dataclass

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: example.test\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: example.test\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: example.test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """`answers` are the statuses that its client may get, `reaches` the targets that the backend hears."""

    sent: bytes
    answers: tuple[int, ...] = (400,)
    reaches: tuple[bytes, ...] = ()


def posted(*fields: bytes, body: bytes = b"", answers: tuple[int, ...] = (400,)) -> Attack:
    """A POST with these fields, its body, and a smuggled request behind it."""
    return Attack(POST + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body + SMUGGLED, answers)


def got(line: bytes, *answers: int) -> Attack:
    """A GET with one odd line."""
    return Attack(GET + line + b"\r\n\r\n", answers or (400,))


def started(line: bytes, *answers: int) -> Attack:
    """A request whose first line is odd."""
    return Attack(line + b"\r\nHost: example.test\r\n\r\n", answers or (400,))


def passed(sent: bytes, *reaches: bytes) -> Attack:
    """What is well-formed, or can be made so: it is passed on."""
    return Attack(sent, (200,) * len(reaches), reaches)


LENGTH_4, TE = b"Content-Length: 4", b"Transfer-Encoding: chunked"
TWO_FRAMINGS = {
    "length, then chunked": posted(LENGTH_4, TE, body=LAST),
    "chunked, then length": posted(TE, LENGTH_4, body=LAST),
    "length of the smuggled one, then chunked": posted(b"Content-Length: 51", TE, body=LAST),
    "chunked in HTTP/1.0": Attack(CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + LAST + SMUGGLED),
    "chunked in HTTP/1.0, kept alive": Attack(
        POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + TE + b"\r\n\r\n" + LAST + SMUGGLED
    ),
}
LENGTHS = {
    "two that differ": posted(b"Content-Length: 0", b"Content-Length: 46"),
    "two that agree": posted(b"Content-Length: 0", b"Content-Length: 0"),
    "a list": posted(b"Content-Length: 0, 0"),
    "a sign": posted(b"Content-Length: +5", body=b"hello"),
    "negative": posted(b"Content-Length: -1"),
    "hexadecimal": posted(b"Content-Length: 0x5", body=b"hello"),
    "two numbers": posted(b"Content-Length: 5 5", body=b"hello"),
    "an underscore inside": posted(b"Content-Length: 1_0", body=b"hello"),
    "a decimal point": posted(b"Content-Length: 5.0", body=b"hello"),
    "a no-break space": posted(b"Content-Length: \xa05", body=b"hello"),
    "none": posted(b"Content-Length: "),
    "2^64": posted(b"Content-Length: 18446744073709551616"),
    "2^64 - 1": posted(b"Content-Length: 18446744073709551615", answers=(413,)),
    "2^63": posted(b"Content-Length: 9223372036854775808", answers=(413,)),
}
CODINGS = {
    "unknown": posted(b"Transfer-Encoding: xchunked", body=LAST),
    "chunked twice": posted(b"Transfer-Encoding: chunked, chunked", body=LAST),
    "identity": posted(b"Transfer-Encoding: identity", body=LAST),
    "gzip, then chunked": posted(b"Transfer-Encoding: gzip, chunked", body=LAST, answers=(501,)),
    "chunked, then identity": posted(b"Transfer-Encoding: chunked, identity", body=LAST),
    "a parameter": posted(b"Transfer-Encoding: chunked;q=1", body=LAST),
    "quoted": posted(b'Transfer-Encoding: "chunked"', body=LAST),
    "a vertical tab before": posted(b"Transfer-Encoding: \x0bchunked", body=LAST),
    "a form feed behind": posted(b"Transfer-Encoding: chunked\x0c", body=LAST),
    "two fields": posted(TE, b"Transfer-Encoding: identity", body=LAST),
    "two fields that agree": posted(TE, TE, body=LAST),
    "empty": posted(b"Transfer-Encoding: ", body=LAST, answers=(400, 501)),
    "a space before the colon": posted(b"Transfer-Encoding : chunked", body=LAST),
    "folded": posted(b"Transfer-Encoding:\r\n chunked", body=LAST),
    "folded inside": posted(b"Transfer-Encoding: chun\r\n ked", body=LAST),
}
LINE_ENDS = {
    "a folded value": got(b"X-A: a\r\n b"),
    "a fold with a tab": got(b"X-A: a\r\n\tb"),
    "a fold behind the request line": Attack(b"GET /a HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n"),
    "a space before the first field": got(b" X-A: a"),
    "only line feeds": Attack(GET.replace(b"\r\n", b"\n") + b"\n"),
    "one line feed": got(b"X-A: a\nX-B: b"),
    "a line feed for the empty line": Attack(GET + b"\n"),
    "a field behind a line feed": posted(b"X-A: a\nTransfer-Encoding: chunked", body=LAST),
    "a field behind a carriage return": posted(b"X-A: a\rTransfer-Encoding: chunked", body=LAST),
    "two carriage returns": got(b"X-A: a\r"),
}
CONTROLS = {
    "NUL in a value": got(b"X-A: a\0b"),
    "NUL in a name": got(b"X\0A: b"),
    "NUL in the target": started(b"GET /a\0b HTTP/1.1"),
    "NUL in the method": started(b"GE\0T /a HTTP/1.1"),
    "SOH in a value": got(b"X-A: a\x01b"),
    "DEL in a value": got(b"X-A: a\x7fb"),
    "SOH in the target": started(b"GET /a\x01b HTTP/1.1"),
    "a tab in the target": started(b"GET /a\tb HTTP/1.1"),
    "DEL in the target": started(b"GET /a\x7fb HTTP/1.1"),
}
NAMES = {
    "a space before the colon": got(b"X-A : b"),
    "a tab before the colon": got(b"X-A\t: b"),
    "a space inside": got(b"X A: b"),
    "empty": got(b": b"),
    "no colon": got(b"nothing"),
    "a parenthesis": got(b"X(A): b"),
    "a quote": got(b'X"A: b'),
    "not ASCII": got(b"X\xe9A: b"),
}
ALIASES = {
    "of the length": posted(b"Content_Length: 5"),
    "of the coding": posted(b"Transfer_Encoding: chunked", body=LAST),
    "of the client": got(b"X_Forwarded_For: 192.0.2.1"),
    "of the client, half": got(b"X-Forwarded_For: 192.0.2.1"),
    "of the client, with dots": got(b"X.Forwarded.For: 192.0.2.1"),
    "of the key": got(b"Sec_WebSocket_Key: dGhlIHNhbXBsZSBub25jZQ=="),
}
START_LINES = {
    "a space in the target": started(b"GET /a b HTTP/1.1"),
    "a space behind the version": started(b"GET /a HTTP/1.1 "),
    "tabs": started(b"GET\t/a\tHTTP/1.1"),
    "a method in lower case": started(b"get /a HTTP/1.1"),
    "an unknown method": started(b"FROB /a HTTP/1.1"),
    "no version": Attack(b"GET /a\r\n\r\n" + SMUGGLED, (400, 505)),
    "HTTP/0.9": started(b"GET /a HTTP/0.9", 505),
    "HTTP/1.2": started(b"GET /a HTTP/1.2"),
    "HTTP/1.10": started(b"GET /a HTTP/1.10"),
    "HTTP/2.0": started(b"GET /a HTTP/2.0", 505),
    "the preface of HTTP/2": Attack(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": Attack(b"CONNECT evil:80 HTTP/1.1\r\nHost: evil:80\r\n\r\n" + SMUGGLED, (405,)),
}
TARGETS = {
    "a fragment": started(b"GET /a#b HTTP/1.1"),
    "a fragment behind a query": started(b"GET /a?b#c HTTP/1.1"),
    "another scheme": started(b"GET ftp://example.test/b HTTP/1.1"),
    "a relative path": started(b"GET a HTTP/1.1"),
    "a backslash": started(b"GET \\a HTTP/1.1"),
    "a star": started(b"GET * HTTP/1.1"),
}
OVERSIZED = {
    "a request line": started(b"GET /" + b"a" * 17_000 + b" HTTP/1.1", 431),
    "a method": Attack(b"A" * 70_000),
    "a value": got(b"X: " + b"a" * 17_000, 431),
    "a name": got(b"X" * 17_000 + b": a", 431),
    "a Host": started(b"GET /a HTTP/1.1\r\nX: y\r\nHost: " + b"a" * 17_000, 400, 431),
    "many fields": got(b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"X: a"),
    "the whole head": got(
        b"".join(b"X-%d: %b\r\n" % (number, b"a" * 8000) for number in range(20)) + b"X: a", 431
    ),
}
CHUNKS = {
    name: Attack(CHUNKED + body + LAST + SMUGGLED)
    for name, body in {
        "no number": b"zz\r\nhello\r\n",
        "negative": b"-1\r\nhello\r\n",
        "a sign": b"+5\r\nhello\r\n",
        "0x": b"0x5\r\nhello\r\n",
        "a space before": b" 5\r\nhello\r\n",
        "a space behind": b"5 \r\nhello\r\n",
        "an underscore": b"0_5\r\nhello\r\n",
        "none": b"\r\nhello\r\n",
        "2^64": b"10000000000000000\r\nhello\r\n",
        "a line feed behind the size": b"5\nhello\r\n",
        "a line feed behind the data": b"5\r\nhello\n",
        "nothing behind the data": b"5\r\nhello",
        "more than its size": b"5\r\nhelloXX\r\n",
        "a line feed in an extension": b"5;a\nhello\r\n",
        "a carriage return in an extension": b"5;a\rb\r\nhello\r\n",
        "NUL in an extension": b"5;a\0b\r\nhello\r\n",
        "line feeds at the end": b"0\n\n",
        "a line feed for the last line": b"0\r\n\n",
        "a length in the trailer": b"0\r\nContent-Length: 46\r\n\r\n",
        "a coding in the trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "a trailer that is no field": b"0\r\nnothing\r\n\r\n",
        "an endless trailer": b"0\r\n"
        + b"".join(b"X-%d: a\r\n" % number for number in range(3000))
        + b"\r\n",
    }.items()
}
# Either well-formed, or made so on the way: (attack, what must not be in what the backend got).
A, BOTH = b"/a", (b"/a", b"/smuggled")
NORMALISED = {
    "chunk extensions": (passed(CHUNKED + b"5;a=b\r\nhello\r\n" + LAST, A), b"a=b"),
    "a quoted chunk extension": (passed(CHUNKED + b'5;a="b;c"\r\nhello\r\n' + LAST, A), b"b;c"),
    "a long chunk extension": (
        passed(CHUNKED + b"5;a=" + b"b" * 200_000 + b"\r\nhello\r\n" + LAST, A),
        b"bbb",
    ),
    "a size of many zeros": (passed(CHUNKED + b"0" * 40 + b"5\r\nhello\r\n" + LAST, A), b"0000"),
    "a trailer": (passed(CHUNKED + b"5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n", A), b"X-Trailer"),
    "CHUNKED": (passed(POST + b"Transfer-Encoding:\tCHUNKED\r\n\r\n" + LAST, A), b"CHUNKED"),
    "space around a length": (passed(POST + b"Content-Length: \t 5 \t \r\n\r\nhello", A), b" \t"),
    "two spaces in the request line": (passed(b"GET  /a  HTTP/1.1\r\nHost: example.test\r\n\r\n", A), b"  "),
    "line ends before the request": (passed(b"\r\n\n\r\n" + GET + b"\r\n", A), b"\n\n"),
    "a length that Connection names": (
        passed(POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello", A),
        b"Connection",
    ),
    "a Host that Connection names": (passed(GET + b"Connection: Host\r\n\r\n", A), b"Connection"),
    "an authority in the target": (
        passed(b"GET http://evil.test/a HTTP/1.1\r\nHost: example.test\r\n\r\n", A),
        b"GET http:",
    ),
    "Keep-Alive, TE, Upgrade": (
        passed(GET + b"Keep-Alive: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", A),
        b"trailers",
    ),
}
PIPELINED = {
    "two": passed(GET + b"\r\n" + SMUGGLED, *BOTH),
    "behind a body": passed(POST + b"Content-Length: 5\r\n\r\nhello" + SMUGGLED, *BOTH),
    "behind a body of a GET": passed(GET + b"Content-Length: 5\r\n\r\nhello" + SMUGGLED, *BOTH),
    "behind chunks": passed(CHUNKED + b"5\r\nhello\r\n" + LAST + SMUGGLED, *BOTH),
    "behind a length of zeros": passed(POST + b"Content-Length: 005\r\n\r\nhello" + SMUGGLED, *BOTH),
    "a hundred": passed((GET + b"\r\n") * 100, *[A] * 100),
}
REFUSED = {
    "two framings": TWO_FRAMINGS,
    "length": LENGTHS,
    "coding": CODINGS,
    "line ends": LINE_ENDS,
    "control character": CONTROLS,
    "field name": NAMES,
    "alias": ALIASES,
    "start line": START_LINES,
    "target": TARGETS,
    "oversized": OVERSIZED,
    "chunk": CHUNKS,
}
