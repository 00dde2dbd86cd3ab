"""A server that ends the first connection of each client in a way of its own, and serves those who come back.

`case` in the query says what is to happen: `close-1012`, `close-1005` (an empty Close), `close-1006` (the
connection ends without one); `first-503`, `again-429`, `again-0` refuse the first or second handshake with
that status, or with none: the connection ends. `first-hold` lets the first handshake wait until the client
tires. It speaks as much of socket.io and of graphql-transport-ws as their clients need to be answered.
"""

from __future__ import annotations

import json
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Request, Response, ServerConnection, serve

RESTART = 1012
GRAPHQL = "graphql-transport-ws"
ENGINE_IO_OPEN = '0{"sid":"1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'


class Scripted:
    """Counts handshakes and openings by case; a case is one client."""

    def __init__(self) -> None:
        self.handshakes: Counter[str] = Counter()
        self.openings: Counter[str] = Counter()

    async def before_upgrade(self, ws: ServerConnection, request: Request) -> Response | None:
        """Refuse the handshake whose turn it is."""
        case = case_of(request)
        self.handshakes[case] += 1
        when, what = case.split("-")
        if self.handshakes[case] != {"first": 1, "again": 2}.get(when):
            return None
        if what == "hold":
            await ws.wait_closed()
            return None
        if what == "0":
            ws.transport.abort()
            return None
        refusal = ws.respond(int(what), "come back later\n")
        refusal.headers["Retry-After"] = "1"
        return refusal

    async def handler(self, ws: ServerConnection) -> None:
        """Answer what the client says; if it is its first connection, end it then."""
        assert ws.request is not None
        case = case_of(ws.request)
        self.openings[case] += 1
        when, what = case.split("-")
        if ws.request.path.startswith("/socket.io/"):
            await ws.send(ENGINE_IO_OPEN)
        async for message in ws:
            greeting, reply = answer(str(message), ws.subprotocol)
            if greeting or reply:
                await ws.send(greeting or reply)
            if reply and self.openings[case] == 1:
                await end(ws, int(what) if when == "close" else RESTART)
                return


def serving() -> serve:
    """The server on a free port of loopback, as an asynchronous context manager."""
    scripted = Scripted()
    return serve(
        scripted.handler,
        "127.0.0.1",
        0,
        process_request=scripted.before_upgrade,
        select_subprotocol=lambda _, offered: GRAPHQL if GRAPHQL in offered else None,
    )


def case_of(request: Request) -> str:
    return parse_qs(urlsplit(request.path).query)["case"][0]


def answer(message: str, subprotocol: str | None) -> tuple[str, str]:
    """What greets the client, or what serves it."""
    if subprotocol == GRAPHQL:
        said = json.loads(message)
        if said["type"] == "connection_init":
            return json.dumps({"type": "connection_ack"}), ""
        if said["type"] == "subscribe":
            payload = {"data": {"greeting": "hello"}}
            return "", json.dumps({"id": said["id"], "type": "next", "payload": payload})
        return "", ""
    if message == "40":  # socket.io: CONNECT to the main namespace
        return '40{"sid":"2"}', ""
    if message == "41":  # DISCONNECT
        return "", ""
    return "", message.replace('42["say"', '42["said"')


async def end(ws: ServerConnection, code: int) -> None:
    """Close with this code; 1005 and 1006 are the two ends that have none."""
    if code == 1006:
        ws.transport.close()
    elif code == 1005:
        ws.protocol.send_close()
        ws.transport.writelines(ws.protocol.data_to_send())
    else:
        await ws.close(code)
    await ws.wait_closed()
