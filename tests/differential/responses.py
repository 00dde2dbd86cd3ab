"""Responses of known shape: status lines, fields and bodies."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from tests.differential.exchange import Exchange
from tests.differential.writing import CHUNKED, PACKED, answered, asking, chunks, got, telling

# -- statuses and response heads ----------------------------------------------------------------------------

WITH_BODY = [status for status in HTTPStatus if status >= 200 and status not in {204, 304}]
STATUSES = [
    *(f"{status.value} {status.phrase}".encode() for status in WITH_BODY),
    *(
        b"299 Odd",
        b"418 I'm a teapot, too",
        b"451 ",
        b"499 Odd",
        b"599 Odd",
        b"600 Beyond",
        b"999 Far beyond",
    ),
]
LINES = {
    "no reason": b"200 ",
    "no reason and no space": b"200",
    "a reason of two words and more": b"200 All  is   fine",
    "a reason beyond ASCII": b"200 \xe4 \xc3\xbc \xff",
    "a reason with a tab": b"200 a\tb",
    "a reason of 4000 bytes": b"200 " + b"a" * 4000,
    "a reason that looks like a field": b"200 X: 1",
}
HEADS: dict[str, list[bytes]] = {
    "no field": [],
    "several Set-Cookie lines": [
        b"Set-Cookie: a=1; Path=/; HttpOnly",
        b"set-cookie: b=2",
        b"Set-Cookie: a=3; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
    ],
    "a Set-Cookie of odd bytes": [
        b'Set-Cookie: a=\xe4\xff; {"x":[1,2]}',
        b"Set-Cookie: =; ;",
        b"Set-Cookie:",
    ],
    "odd case": [b"x-lower: 1", b"X-UPPER: 2", b'eTAG: "x"'],
    "repeated in order": [b"Vary: a", b"X: 1", b"vary: b", b"Vary: a"],
    "twice what comes once": [
        b"Content-Type: a/b",
        b"Content-Type: c/d",
        b"Server: a",
        b"Server: b",
        b"ETag: 1",
        b"ETag: 2",
    ],
    "empty values": [b"X-Empty:", b"X-Space:  "],
    "white space around values": [b"X-A:none", b"X-B:   three", b"X-C: behind  ", b"X-D:\ttab\t"],
    "bytes beyond ASCII": [b"X-Latin: \xe4", "X-Utf8: süß".encode(), b"X-Bad: \xff\xc3("],
    "Date and Server": [b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"Server: mine/1.0"],
    "neither Date nor Server": [b"X: 1"],
    "Location": [b"Location: //other.test/a%2fb?c#d"],
    "Location, relative": [b"Location: ../x;y"],
    "Location with the upstream's own name": [b"Location: http://127.0.0.1/x"],
    "WWW-Authenticate": [
        b'WWW-Authenticate: Basic realm="a, b"',
        b"WWW-Authenticate: Negotiate",
        b"Proxy-Authenticate: Basic",
    ],
    "CORS": [b"Access-Control-Allow-Origin: *", b"Access-Control-Expose-Headers: X, Y"],
    "caching": [
        b"Cache-Control: no-store",
        b"Age: 5",
        b"Expires: 0",
        b"Last-Modified: x",
        b"Warning: 110 - x",
    ],
    "Connection: close": [b"Connection: close"],
    "Connection: keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=100"],
    "Connection that names fields": [b"Connection: X-Hop", b"X-Hop: 1", b"X-Stays: 2"],
    "Proxy-Connection, TE, Trailer, Upgrade": [
        b"Proxy-Connection: x",
        b"TE: x",
        b"Trailer: x",
        b"Upgrade: h2c",
        b"Connection: Upgrade",
    ],
    "Alt-Svc and Strict-Transport-Security": [b'Alt-Svc: h3=":443"', b"Strict-Transport-Security: max-age=1"],
    "X-Accel and X-Sendfile": [b"X-Accel-Buffering: no", b"X-Accel-Redirect: /x", b"X-Sendfile: /x"],
    "128 fields": [b"X-%d: %d" % (number, number) for number in range(127)],
    "a field of 16 KiB": [b"X: " + b"a" * 16383],
    "Accept-Ranges": [b"Accept-Ranges: bytes"],
    "Sec-WebSocket-Accept": [b"Sec-WebSocket-Accept: x"],
}


def statuses() -> Iterable[Exchange]:
    for status in STATUSES:
        yield answered(f"status {status.decode()}", telling(status, b"X: 1", body=b"body"))
    for name, line in LINES.items():
        yield answered(f"status line with {name}", telling(line, body=b"body"))
    for name, lines in HEADS.items():
        yield answered(f"answered with {name}", telling(b"200 OK", *lines, body=b"body"))
    for name, lines in (
        ("129 fields", [b"X: 1"] * 128),
        ("a field beyond the limit", [b"X: " + b"a" * 16385]),
    ):
        beyond = telling(b"200 OK", *lines, body=b"body")
        yield got(
            f"answered with {name}",
            asking(b"GET /"),
            answer=("body", beyond),
            own="answers beyond the limits",
        )
    for name in ("several Set-Cookie lines", "Connection: close", "odd case"):
        yield answered(f"404 with {name}", telling(b"404 Not Found", *HEADS[name], body=b"none"))
    for lines in (
        [b"Upgrade: WebSocket", b"Connection: Upgrade"],
        [b"Upgrade: TLS/1.0", b"Connection: Upgrade"],
    ):
        told = lines[0].decode()
        yield answered(f"426 with {told}", telling(b"426 Upgrade Required", *lines, b"X: 1", body=b"no"))
    for version in (b"HTTP/1.0", b"HTTP/1.1"):
        name = version.decode()
        yield answered(f"{name} with a length", telling(b"200 OK", body=b"body", version=version))
        yield answered(f"{name} until the end", version + b" 200 OK\r\nX: 1\r\n\r\nuntil the end", "close")
        yield answered(f"{name} until the end, empty", version + b" 200 OK\r\nX: 1\r\n\r\n", "close")
        yield answered(
            f"{name} that keeps alive",
            telling(b"200 OK", b"Connection: keep-alive", body=b"body", version=version),
        )


# -- response bodies ----------------------------------------------------------------------------------------


def answers() -> Iterable[Exchange]:
    every, big = bytes(range(256)), bytes(1 << 20)
    for method in (b"HEAD", b"GET"):
        name, empty = (
            method.decode(),
            (
                (b"200 OK", b"204 No Content", b"304 Not Modified")
                if method == b"HEAD"
                else (b"204 No Content", b"304 Not Modified")
            ),
        )
        for status in empty:
            for lines in (
                [],
                [b"Content-Length: 1234"],
                [b"Content-Length: 0"],
                [b'ETag: "x"', b"Content-Encoding: gzip", b"Vary: a"],
                [b"Connection: close"],
            ):
                head = b"\r\n".join([b"HTTP/1.1 " + status, *lines]) + b"\r\n\r\n"
                told = b", ".join(lines).decode() or "nothing"
                yield answered(f"{name} {status.decode()} with {told}", head, line=method + b" /")
    yield answered("HEAD 404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", line=b"HEAD /")
    yield answered("HEAD with chunks said", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n", line=b"HEAD /")
    yield answered("length 0", telling(b"200 OK"))
    yield answered("every byte", telling(b"200 OK", body=every))
    yield answered("every byte in chunks", telling(b"200 OK", CHUNKED[:-2], body=chunks(every)))
    yield answered("1 MiB", telling(b"200 OK", body=big))
    yield answered(
        "1 MiB in chunks", telling(b"200 OK", CHUNKED[:-2], body=chunks(big[: 1 << 19], big[: 1 << 19]))
    )
    yield answered("1 MiB until the end", b"HTTP/1.1 200 OK\r\n\r\n" + big, "close")
    yield answered(
        "compressed", telling(b"200 OK", b"Content-Encoding: gzip", b"Vary: Accept-Encoding", body=PACKED)
    )
    yield answered(
        "compressed in chunks",
        telling(b"200 OK", b"Content-Encoding: gzip", CHUNKED[:-2], body=chunks(PACKED[:9], PACKED[9:])),
    )
    yield answered(
        "compressed until the end", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + PACKED, "close"
    )
    for coding in (b"gzip", b"br", b"deflate", b"zstd", b"gzip, br", b"identity", b"x-own"):
        yield answered(
            f"only called {coding.decode()}",
            telling(b"200 OK", b"Content-Encoding: " + coding, body=b"plain"),
        )
    yield answered("no chunks", telling(b"200 OK", CHUNKED[:-2], body=chunks()))
    yield answered("chunks of one byte", telling(b"200 OK", CHUNKED[:-2], body=chunks(*[b"x"] * 100)))
    yield answered(
        "chunks with extensions",
        telling(b"200 OK", CHUNKED[:-2], body=chunks(b"hel", b"lo", extension=b';a="b"')),
    )
    yield answered(
        "trailers",
        telling(
            b"200 OK",
            b"Trailer: X-Sum",
            CHUNKED[:-2],
            body=chunks(b"hello", trailers=b"X-Sum: 1\r\nX-B: 2\r\n"),
        ),
    )
    yield answered(
        "trailers not announced",
        telling(b"200 OK", CHUNKED[:-2], body=chunks(b"hello", trailers=b"Server-Timing: x\r\n")),
    )
    yield answered(
        "Transfer-Encoding in odd case",
        telling(b"200 OK", b"TRANSFER-encoding: Chunked", body=chunks(b"hello")),
    )
    ranged = (b"206 Partial Content", b"Content-Range: bytes 2-3/10", b"Accept-Ranges: bytes")
    yield got("a range", asking(b"GET /", b"Range: bytes=2-3"), answer=("body", telling(*ranged, body=b"23")))
    each = b"--x\r\nContent-Range: bytes %d-%d/10\r\n\r\n%d\r\n"
    parts = each % (0, 0, 0) + each % (9, 9, 9) + b"--x--\r\n"
    several = telling(b"206 Partial Content", b"Content-Type: multipart/byteranges; boundary=x", body=parts)
    yield got("several ranges", asking(b"GET /", b"Range: bytes=0-0,9-9"), answer=("body", several))
    beyond = telling(b"416 Range Not Satisfiable", b"Content-Range: bytes */10")
    yield got("a range beyond", asking(b"GET /", b"Range: bytes=20-"), answer=("body", beyond))
    yield got(
        "a range, compressed",
        asking(b"GET /", b"Range: bytes=2-9"),
        answer=("body", telling(*ranged, b"Content-Encoding: gzip", body=PACKED[2:10])),
    )
    yield got(
        "the body comes back",
        asking(b"POST /", CHUNKED[:-2], body=chunks(every)),
        answer=("body", telling(b"200 OK", body=every)),
    )
    yield answered("a length, and the end at once", telling(b"200 OK", body=b"one"), "close")
