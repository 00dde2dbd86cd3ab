"""The way in: whatever a client sends, it gets HTTP or the end, and the next one is served.

An input is what a client sends on one connection, before it ends its side.
"""

from __future__ import annotations

import random
import zlib

from proxy.core.frames import PING, PONG, TEXT, close_frame, frame
from tests.edge.peers import MASK
from tests.fuzz.door import HONEST, Door, door, shut
from tests.fuzz.reference import frames
from tests.fuzz.target import Target
from tests.fuzz.wire import replies, request_head


def check(data: bytes) -> None:
    door().run(Call(data))


class Call:
    """One connection, its bytes sent in one part or in a few; which, they say themselves."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __call__(self, door: Door) -> None:
        came = await door.say(*self._parts())
        for reply in replies(came, over=True, bodyless=b"HEAD" in self._data):
            assert reply.status != 500
            if reply.status == 101:
                assert all(not each.mask for each in frames(reply.body)), "a server masks nothing"
        for head in door.heads:
            request_head(head)

    def _parts(self) -> list[bytes]:
        chance = random.Random(zlib.crc32(self._data))
        cuts = sorted({chance.randrange(len(self._data) + 1) for _ in range(chance.choice((0, 0, 1, 3)))})
        return [self._data[a:b] for a, b in zip([0, *cuts], [*cuts, len(self._data)], strict=True) if b > a]


TOKENS = (
    b"GET /ws HTTP/1.1\r\n",
    b"HEAD / HTTP/1.0\r\n",
    b"POST /x HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"GET http://u@b/p?q HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Host: a\r\n",
    b"Connection: Upgrade\r\n",
    b"Connection: close, Upgrade, Host\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: h2c, websocket\r\n",
    b"Sec-WebSocket-Version: 13\r\n",
    b"Sec-WebSocket-Version: 8\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Sec-WebSocket-Protocol: chat, \r\n",
    b'Sec-WebSocket-Extensions: permessage-deflate; x="\\""\r\n',
    b"Content-Length: 4\r\n",
    b"Content-Length: 4, 4\r\n",
    b"Content-Length: +4\r\n",
    b"Content-Length: " + b"0" * 4400 + b"4\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Cookie: \xff\xfe\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
    b" folded\r\n",
    b"Bad Name: x\r\n",
    b": x\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"4\r\nbody\r\n0\r\n\r\n",
    b"5;a=b\r\nbody",
    frame(TEXT, b"early", mask=MASK),
    frame(PING, b"", mask=MASK),
    frame(PONG, b"12345678", mask=MASK),
    close_frame(1000, mask=MASK),
    HONEST,
)
TARGET = Target("upgrade", check, TOKENS, share=2.5, longest=8192, few=60, end=shut)
