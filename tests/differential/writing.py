"""Words for writing exchanges down."""

from __future__ import annotations

import gzip

from tests.differential.exchange import Act, Answer, Exchange

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWER: Answer = ("body", OK)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PACKED = gzip.compress(b"as it was" * 100, mtime=0)


def asking(
    line: bytes, *fields: bytes, body: bytes = b"", host: bytes = b"shop.test", version: bytes = b"HTTP/1.1"
) -> bytes:
    """A request; `fields` are whole lines without their end, Host is the first of them if there is one."""
    lines = [line + b" " + version, *([b"Host: " + host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def telling(status: bytes, *fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A response; a Content-Length comes last if no field says how its body is framed."""
    framed = any(line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in fields)
    lines = [version + b" " + status, *fields, *([] if framed else [b"Content-Length: %d" % len(body)])]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunks(*parts: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A whole chunked body."""
    coded = (b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return b"".join(coded) + b"0\r\n" + trailers + b"\r\n"


def got(name: str, *acts: Act, answer: Answer = ANSWER, own: str = "", in_step: bool = True) -> Exchange:
    return Exchange(name, acts, answer, own, in_step)


def answered(name: str, response: bytes, *more: bytes | str, line: bytes = b"GET /") -> Exchange:
    return got(name, asking(line), answer=("body", response, *more))
