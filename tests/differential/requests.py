"""Requests of known shape: lines, fields and bodies."""

from __future__ import annotations

from collections.abc import Iterable

from tests.differential.exchange import BackendHas, Exchange
from tests.differential.writing import CHUNKED, PACKED, asking, chunks, got

LIMIT = 16384  # policies/production.yaml: of a request line's target, and of a field


# -- methods ------------------------------------------------------------------------------------------------

COMMON = b"GET POST PUT PATCH DELETE OPTIONS TRACE".split()
RARE = b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT PURGE M-SEARCH NOTIFY LINK ACL QUERY".split()
BODIED = b"POST PUT PATCH DELETE GET OPTIONS PROPFIND REPORT".split()


def methods() -> Iterable[Exchange]:
    for method in (*COMMON, *RARE):
        yield got(f"{method.decode()} without a body", asking(method + b" /path"))
    for method in BODIED:
        name = method.decode()
        yield got(f"{name} with a length", asking(method + b" /", b"Content-Length: 5", body=b"hello"))
        yield got(f"{name} in chunks", asking(method + b" /", CHUNKED[:-2], body=chunks(b"hel", b"lo")))
    yield got("POST of length 0", asking(b"POST /", b"Content-Length: 0"))
    yield got("POST of no chunks", asking(b"POST /", CHUNKED[:-2], body=chunks()))
    for line in (b"BREW /pot", b"get /", b"X-CUSTOM /"):
        yield got(f"unknown method {line.decode()}", asking(line), own="unknown methods")
    yield got("CONNECT", asking(b"CONNECT shop.test:443"), own="CONNECT")


# -- targets ------------------------------------------------------------------------------------------------

TARGETS = [
    b"/",
    b"//",
    b"///a//b///",
    b"//evil.test/path",
    b"/./a/../b/.",
    b"/..",
    b"/a/%2e%2e/b",
    b"/a%2Fb%2f%7e%41",
    b"/a%",
    b"/a%zz%1",
    b"/%00",
    b"/%0d%0aX: 1".replace(b" ", b"%20"),
    b"/semi;colon=1;x/y;z",
    b"/;",
    b"/a,b:c@d!$&'()*+=e",
    b"/~user/-._",
    b"/%C3%BC/%E6%97%A5%E6%9C%AC",
    b"/%c3%bc",
    b"/%ff%fe",
    b"/a?",
    b"/?",
    b"/a??b",
    b"/a?b?c=d&&e=;f",
    b"/a?x=%zz+%20%2B'",
    b'/a?q="<>{}|\\^`[]',
    b'/"<>{}|\\^`[]',
    b"/a?%C3%BC=%E6%97%A5",
    b"/a?ws://other.test/",
    b"/http://other.test/",
    b"/a?redirect=http://other.test/?x=1",
    b"/*",
    b"/a:80",
    b"/.well-known/x",
    b"/_readygate",
]


def targets() -> Iterable[Exchange]:
    for target in TARGETS:
        yield got(f"target {target.decode()}", asking(b"GET " + target))
    for target in (b"/\xc3\xbc", b"/\xe4", b"/?q=\xc3\xbc", b"/a\x80"):
        yield got(f"target {target!r}", asking(b"GET " + target), own="targets beyond ASCII")
    for target in (b"/a#fragment", b"/a?b#fragment", b"/a?redirect=http://other.test/?x=1#y"):
        yield got(f"target {target.decode()}", asking(b"GET " + target), own="fragments")
    yield got("a path of the gate", asking(b"GET /_readygate/x"), own="paths of the gate")
    yield got("OPTIONS *", asking(b"OPTIONS *"))
    for target in (
        b"http://shop.test/a",
        b"http://real.test:81/a//b?c",
        b"http://real.test",
        b"http://real.test?q",
        b"HTTP://Real.Test/%41",
        b"https://user:word@real.test/x",
        b"http://[::1]:80/",
    ):
        yield got(f"absolute-form {target.decode()}", asking(b"GET " + target))
    yield got("absolute-form of OPTIONS *", asking(b"OPTIONS http://real.test"))
    yield got("absolute-form of OPTIONS with a path", asking(b"OPTIONS http://real.test/"))
    yield got("absolute-form with POST", asking(b"POST http://real.test/a", b"Content-Length: 2", body=b"hi"))
    yield got(
        "absolute-form without Host, HTTP/1.0",
        asking(b"GET http://real.test/", host=b"", version=b"HTTP/1.0"),
    )
    for length in (1000, 4000, 8000, LIMIT - 1):
        yield got(f"target of {length} bytes", asking(b"GET /" + b"a" * length))
        yield got(f"query of {length} bytes", asking(b"GET /?" + b"%41" * ((length - 2) // 3)))
    yield got("target beyond the limit", asking(b"GET /" + b"a" * LIMIT), own="heads beyond the limits")


# -- request fields -----------------------------------------------------------------------------------------

FIELDS: dict[str, list[bytes]] = {
    "no field but Host": [],
    "odd case": [b"x-lower: 1", b"X-UPPER: 2", b"x-MiXeD: 3"],
    "repeated in order": [b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-A: 1"],
    "several Cookie lines": [b"Cookie: a=1", b"Cookie: b=2; c=3", b'cookie: d="4 5"'],
    "a cookie of odd bytes": [b"Cookie: a=\xe4\xff; b={json:[1,2]}; ; =x; y"],
    "empty values": [b"X-Empty:", b"X-Space:   ", b"X-Last:"],
    "white space around values": [
        b"X-A:none",
        b"X-B:   three",
        b"X-C: behind   ",
        b"X-D:\ttab\t",
        b"X-E:  in  ner ",
    ],
    "bytes beyond ASCII": [b"X-Latin: \xe4\xf6", "X-Utf8: süß 日本".encode(), b"X-Bad: \xff\xfe\xc3("],
    "a tab inside": [b"X-Tab: a\tb"],
    "names of every token character": [b"!#$%&'*+-.^_`|~09az: 1"],
    "underscores": [b"X_Under_Score: 1", b"X-Under-Score: 2"],
    "names of one character": [b"a: 1", b"b: 2"],
    "Authorization": [b"Authorization: Basic dTpw", b"Proxy-Authorization: Basic eA=="],
    "Accept and its kind": [b"Accept: */*;q=0.8", b"Accept-Encoding: br, gzip", b"Accept-Language: de"],
    "no User-Agent, Accept or Accept-Encoding of ours": [b"X: 1"],
    "Range": [b"Range: bytes=0-1,5-", b'If-Range: "x"'],
    "conditions": [b'If-None-Match: W/"a", "b"', b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"],
    "Origin and Referer": [b"Origin: null", b"Referer: http://a.test/?x#y"],
    "trace context": [
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"tracestate: a=b",
    ],
    "Via, Forwarded, Max-Forwards": [b"Via: 1.0 x", b"Forwarded: for=1.2.3.4", b"Max-Forwards: 3"],
    "X-Forwarded-For of others": [b"X-Forwarded-For: 1.2.3.4"],
    "X-Forwarded-For, two lines": [
        b"X-Forwarded-For: 1.2.3.4",
        b"X-A: 1",
        b"x-forwarded-for: 5.6.7.8, 9.9.9.9",
    ],
    "X-Forwarded-For, empty": [b"X-Forwarded-For:"],
    "X-Forwarded-Proto and -Host": [
        b"x-forwarded-proto: https",
        b"X-Forwarded-Host: public.test",
        b"X-Forwarded-Port: 1",
    ],
    "Connection: keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5"],
    "Connection: close": [b"Connection: close"],
    "Connection: Close, in odd case": [b"connection: Close"],
    "Connection that names fields": [
        b"X-Hop: 1",
        b"Connection: X-Hop, x-other ,",
        b"X-Other: 2",
        b"X-Stays: 3",
    ],
    "two Connection lines": [b"Connection: X-One", b"Connection: X-Two", b"X-One: 1", b"X-Two: 2"],
    "Connection that names Host and Content-Length": [b"Connection: Host, Content-Length"],
    "Proxy-Connection": [b"Proxy-Connection: keep-alive"],
    "TE": [b"TE: trailers, deflate;q=0.5", b"Connection: TE"],
    "Trailer": [b"Trailer: X-Sum"],
    "Upgrade: websocket of a load balancer": [b"Connection: upgrade", b"Upgrade: websocket"],
    "Upgrade: websocket beside keep-alive": [b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"],
    "Upgrade: websocket, twice": [
        b"Connection: upgrade",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Upgrade: websocket",
    ],
    "Upgrade: websocket, foo": [b"Connection: upgrade", b"Upgrade: websocket, foo"],
    "Upgrade without Connection": [b"Upgrade: websocket"],
    "Connection: upgrade without Upgrade": [b"Connection: upgrade"],
    "Upgrade: h2c": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"],
    "Sec-WebSocket-Protocol alone": [b"Sec-WebSocket-Protocol: chat"],
    "Expect without a body": [b"Expect: 100-continue"],
    "Expect of something else": [b"Expect: tea"],
    "Content-Type and -Encoding without a body": [b"Content-Type: a/b; c=d", b"Content-Encoding: br"],
    "128 fields": [b"X-%d: %d" % (number, number) for number in range(127)],
    "a field of 8000 bytes": [b"X: " + b"a" * 8000],
    "a field of 16 KiB": [b"X: " + b"a" * (LIMIT - 1)],
    "48 KB of fields": [b"X-%d: %s" % (number, b"a" * 4000) for number in range(12)],
    "a name of 8000 bytes": [b"X" * 8000 + b": 1"],
}
TWICE = (
    b"Content-Type: a/b",
    b"User-Agent: x",
    b"ETag: x",
    b"Max-Forwards: 1",
    b"Server: x",
    b"Content-Range: x",
)


def fields() -> Iterable[Exchange]:
    for name, lines in FIELDS.items():
        yield got(f"fields: {name}", asking(b"GET /", *lines))
    for name in (
        "Upgrade: websocket of a load balancer",
        "Upgrade: websocket, twice",
        "Upgrade: websocket, foo",
    ):
        sized = asking(b"POST /", *FIELDS[name], b"Content-Length: 5", body=b"hello")
        yield got(f"a body with {name}", sized)
        yield got(
            f"chunks with {name}", asking(b"PUT /", *FIELDS[name], CHUNKED[:-2], body=chunks(b"hel", b"lo"))
        )
    yield got("fields: Host last", asking(b"GET /", b"X-A: 1", b"hOST: other.test:8080", host=b""))
    yield got("fields: Host with a port", asking(b"GET /", host=b"shop.test:80"))
    yield got("fields: Host with an address", asking(b"GET /", host=b"[::1]:8080"))
    yield got("an empty Host", asking(b"GET /", b"Host:", host=b""), own="no valid Host, or two")
    yield got("no Host", asking(b"GET /", host=b""), own="no valid Host, or two")
    yield got("two Hosts", asking(b"GET /", b"Host: other.test"), own="no valid Host, or two")
    for line in TWICE:
        yield got(f"twice {line.decode()}", asking(b"GET /", line, line), own="fields that come once")
    yield got(
        "a field beyond the limit",
        asking(b"GET /", b"X: " + b"a" * (LIMIT + 1)),
        own="heads beyond the limits",
    )
    yield got("129 fields", asking(b"GET /", *[b"X: 1"] * 128), own="fields beyond their number")
    long = [b"X-%d: %s" % (number, b"a" * 8000) for number in range(9)]
    yield got("a head beyond the limit", asking(b"GET /", *long), own="heads beyond the limits")


# -- request bodies -----------------------------------------------------------------------------------------


def bodies() -> Iterable[Exchange]:
    every = bytes(range(256))
    yield got("a body of every byte", asking(b"POST /", b"Content-Length: 256", body=every))
    yield got("chunks of every byte", asking(b"POST /", CHUNKED[:-2], body=chunks(every)))
    yield got(
        "a compressed body",
        asking(b"POST /", b"Content-Encoding: gzip", b"Content-Length: %d" % len(PACKED), body=PACKED),
    )
    yield got(
        "compressed chunks", asking(b"POST /", b"Content-Encoding: gzip", CHUNKED[:-2], body=chunks(PACKED))
    )
    yield got(
        "a body that only says it is compressed",
        asking(b"POST /", b"Content-Encoding: br", b"Content-Length: 5", body=b"hello"),
    )
    yield got(
        "chunks of one byte",
        asking(b"POST /", CHUNKED[:-2], body=chunks(*[b"%d" % (n % 10) for n in range(100)])),
    )
    yield got(
        "chunks with extensions",
        asking(b"POST /", CHUNKED[:-2], body=chunks(b"hel", b"lo", extension=b';a=1;b="c d"')),
    )
    yield got(
        "chunk sizes with zeros before",
        asking(b"POST /", CHUNKED[:-2], body=b"0005\r\nhello\r\n0000\r\n\r\n"),
    )
    yield got(
        "chunk sizes in capitals", asking(b"POST /", CHUNKED[:-2], body=b"A\r\n0123456789\r\n0\r\n\r\n")
    )
    yield got(
        "Transfer-Encoding in odd case",
        asking(b"POST /", b"tRANSFER-eNCODING: CHUNKED", body=chunks(b"hello")),
    )
    yield got("Content-Length with zeros before", asking(b"POST /", b"Content-Length: 005", body=b"hello"))
    yield got("Content-Length in odd case", asking(b"POST /", b"cONTENT-lENGTH:5", body=b"hello"))
    yield got(
        "trailers",
        asking(
            b"POST /",
            b"Trailer: X-Sum",
            CHUNKED[:-2],
            body=chunks(b"hello", trailers=b"X-Sum: 1\r\nX-B: 2\r\n"),
        ),
    )
    yield got(
        "trailers not announced",
        asking(b"POST /", CHUNKED[:-2], body=chunks(b"hello", trailers=b"X-Sum: 1\r\n")),
    )
    yield got(
        "a form",
        asking(
            b"POST /",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: 9",
            body=b"a=1&b=%20",
        ),
    )
    part = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n"
    yield got(
        "a multipart form",
        asking(
            b"POST /",
            b"Content-Type: multipart/form-data; boundary=x",
            b"Content-Length: %d" % len(part),
            body=part,
        ),
    )
    big = bytes(1 << 20)
    yield got("a body of 1 MiB", asking(b"PUT /", b"Content-Length: %d" % len(big), body=big))
    yield got("chunks of 1 MiB", asking(b"PUT /", CHUNKED[:-2], body=chunks(big[: 1 << 18], big[: 3 << 18])))
    head = asking(b"POST /", b"Content-Length: 6")
    yield got("a body bit by bit", head, b"ab", BackendHas(2), b"cd", BackendHas(4), b"ef")
    yield got("a head bit by bit", *(head[n : n + 7] for n in range(0, len(head), 7)), b"abcdef")
    chunked = asking(b"POST /", CHUNKED[:-2])
    yield got(
        "chunks bit by bit",
        chunked,
        b"2\r\nab\r\n",
        BackendHas(2),
        b"2",
        b"\r\nc",
        b"d\r\n",
        BackendHas(4),
        b"0\r\n\r\n",
    )
    yield got("lines before a request", b"\r\n" + asking(b"GET /"))
