"""The cheapest honest echo backend there is here: picows on uvloop. `python -m tests.bench.echo PORT`."""

from __future__ import annotations

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def main(port: int) -> None:
    server = await ws_create_server(lambda _request: Echo(), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
