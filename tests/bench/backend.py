"""The cheapest honest WebSocket backend here: picows on uvloop. `python -m tests.bench.backend PORT`.

A path that begins with `/push` joins its group: a message from any of its members goes to all of them. Every
other path echoes each frame as it came, fragments and compressed ones too, and what came together goes back
together. An offer of permessage-deflate is accepted; nothing is inflated.
"""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from functools import cache

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from tests.backends import launch
from tests.backends.flaky import encode

EXTENSIONS = "Sec-WebSocket-Extensions"
DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)
groups: dict[bytes, set[WSTransport]] = defaultdict(set)


@cache
def head(first: int, size: int) -> bytes:
    """Return a frame's header."""
    return encode(first, bytes(size))[:-size] if size else encode(first, b"")


def answer_control(transport: WSTransport, frame: WSFrame) -> None:
    if frame.msg_type is WSMsgType.PING:
        transport.send_pong(frame.get_payload_as_bytes())
    elif frame.msg_type is WSMsgType.CLOSE:
        transport.send_close(frame.get_close_code())
        transport.disconnect()


class Echo(WSListener):
    """Picows' own answer to pings is off, so that the last frame of a read always gets here."""

    def __init__(self) -> None:
        self.together: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in DATA:
            self.flush(transport)
            answer_control(transport, frame)
        elif frame.last_in_buffer and not self.together:
            transport.send(frame.msg_type, frame.get_payload_as_bytes(), frame.fin, frame.rsv1)
        else:
            first = frame.msg_type.value | frame.fin << 7 | frame.rsv1 << 6
            self.together += (head(first, frame.payload_size), frame.get_payload_as_bytes())
            if frame.last_in_buffer:
                self.flush(transport)

    def flush(self, transport: WSTransport) -> None:
        if self.together:
            transport.underlying_transport.write(b"".join(self.together))
            self.together.clear()


class Member(WSListener):
    """One of a group."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.group = groups[transport.request.path]
        self.group.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in DATA:
            answer_control(transport, frame)
            return
        message = frame.get_payload_as_bytes()
        for member in self.group:
            member.send(frame.msg_type, message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.group.discard(transport)


def listener(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
    """Choose by path, and accept compression if it was offered."""
    chosen = Member() if request.path.startswith(b"/push") else Echo()
    if "permessage-deflate" not in request.headers.get(EXTENSIONS, ""):
        return chosen
    response = WSUpgradeResponse.create_101_response({EXTENSIONS: DEFLATE})
    return WSUpgradeResponseWithListener(response, chosen)


async def main(port: int) -> None:
    gc.set_threshold(100_000, 50, 100)  # collections of thousands of connections would show in latencies
    server = await ws_create_server(listener, "127.0.0.1", port, backlog=4096, enable_auto_pong=False)
    await server.serve_forever()


def start() -> launch.Server:
    """Start it as a process."""
    port = launch.free_port()
    command = [sys.executable, "-m", "tests.bench.backend", str(port)]
    return launch.ready(launch.start("picows", command, port=port))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
