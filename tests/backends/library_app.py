"""An ordinary server on the `websockets` library with the same endpoints as `chat.py`."""

from __future__ import annotations

import asyncio
import http
import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Request, Response, ServerConnection, serve


async def _echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def greet(ws: ServerConnection, query: dict[str, list[str]]) -> None:
    for number in range(int(query.get("count", ["3"])[0])):
        await ws.send(f"push {number}")
    await _echo(ws)


async def announce(ws: ServerConnection, query: dict[str, list[str]]) -> None:
    await asyncio.sleep(0.05)
    await ws.send(json.dumps({"type": "connection_established"}))
    await _echo(ws)


async def close(ws: ServerConnection, query: dict[str, list[str]]) -> None:
    await ws.close(int(query.get("code", ["4401"])[0]), query.get("reason", ["token expired"])[0])


async def handler(ws: ServerConnection) -> None:
    url = urlsplit(ws.request.path)
    special = {"/ws/greet": greet, "/ws/announce": announce, "/ws/close": close}.get(url.path)
    if special:
        await special(ws, parse_qs(url.query))
    else:
        await _echo(ws)


async def before_upgrade(ws: ServerConnection, request: Request) -> Response | None:
    url = urlsplit(request.path)
    if url.path == "/ws/slow":
        await asyncio.sleep(float(parse_qs(url.query).get("wait", ["0.3"])[0]))
    if url.path == "/ws/reject":
        return ws.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    if url.path == "/ws/config":
        return ws.respond(http.HTTPStatus.OK, '{"heartbeat_s": 25}\n')
    return None


def choose(ws: ServerConnection, offered: list[str]) -> str | None:
    return offered[-1] if offered else None


async def main(port: int, certificate: str | None) -> None:
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    async with serve(
        handler,
        "127.0.0.1",
        port,
        process_request=before_upgrade,
        select_subprotocol=choose,
        max_size=None,
        ssl=tls,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
