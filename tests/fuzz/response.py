"""The other side: whatever an upstream answers, the client gets that answer exactly, or one of ours.

An input is what the upstream says to a request before it ends its side: to an upgrade, then to a GET.
"""

from __future__ import annotations

import re

from proxy.core.frames import CLOSE, PING, TEXT, close_frame, frame
from proxy.edge.headers import end_to_end
from tests.fuzz.door import HONEST, Door, door, shut, switching
from tests.fuzz.target import Target
from tests.fuzz.wire import Reply, replies

_GET = b"GET /page HTTP/1.1\r\nHost: honest.test\r\nConnection: close\r\n\r\n"
_OURS = {502, 503, 504}
_FEW = 50  # fields; more than so many may be refused


def check(data: bytes) -> None:
    door().run(Answer(data))


class Answer:
    """One answer, to an upgrade and to a plain request."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._must = said(data)

    async def __call__(self, door: Door) -> None:
        for request in (HONEST, _GET):
            door.answer = self._data
            came = await door.ask(request)
            reply = last(came)
            assert reply is not None, f"no answer to {request[:20]!r}"
            if self._must is not None and self._must.status != 101:
                same(reply, self._must)
            elif reply.status not in _OURS:
                start = re.compile(rb"HTTP/\S+ +" + str(reply.status).encode())
                assert start.search(self._data), f"{reply.status} is not what it said"
                assert reply.status != 101 or request is HONEST, "nobody asked for it"


def last(came: bytes) -> Reply | None:
    """Return the final response."""
    found = [reply for reply in replies(came, over=True) if reply.status == 101 or reply.status >= 200]
    assert len(found) <= 1, "one answer"
    return found[0] if found else None


def said(data: bytes) -> Reply | None:
    """Return the one whole response that an answer is, read the strict way; None for all else."""
    try:
        found = list(replies(data, over=True))
    except (AssertionError, ValueError):
        return None
    finals = [reply for reply in found if reply.status >= 200]
    if len(finals) != 1 or found[-1] is not finals[0] or any(reply.status == 101 for reply in found):
        return None
    reply = finals[0]
    plain = reply.whole and not reply.head.values(b"transfer-encoding") and len(reply.head.fields) <= _FEW
    return reply if plain and reply.head.start[0] == b"1" else None


def same(reply: Reply, must: Reply) -> None:
    """It is what the upstream said, field by field, but for the fields of a connection."""
    assert (reply.status, reply.reason, reply.body) == (must.status, must.reason, must.body)
    fields = iter(reply.head.fields)
    assert all(field in fields for field in end_to_end(must.head.fields)), (
        "order, case and repetition are kept"
    )


TOKENS = (
    switching(HONEST),
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 403 Forbidden\r\n",
    b"HTTP/1.1 503 \r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 099 X\r\n",
    b"HTTP/1.1 1000 X\r\n",
    b"ICY 200 OK\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: websocket, h2c\r\n",
    b"Connection: Upgrade\r\n",
    b"Connection: close\r\n",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    b"Sec-WebSocket-Protocol: chat\r\n",
    b"Content-Length: 4\r\n",
    b"Content-Length: 4, 4\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Set-Cookie: a=\xe4; x\r\n",
    b"Location: /\xff\r\n",
    b" folded\r\n",
    b"Bad Name: x\r\n",
    b": x\r\n",
    b"\r\n",
    b"body",
    b"4\r\nbody\r\n0\r\n\r\n",
    frame(TEXT, b"welcome"),
    frame(PING, b"x"),
    frame(CLOSE, b""),
    close_frame(1011, "x"),
    close_frame(4401, "no"),
)
TARGET = Target("response", check, TOKENS, share=2.0, longest=4096, few=60, end=shut)
