"""An ordinary aiohttp server with the same endpoints as `chat.py`, as far as aiohttp can do them."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import WSMsgType, web


async def _echo(ws: web.WebSocketResponse) -> web.WebSocketResponse:
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def _accept(request: web.Request, **options: object) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(**options)
    await ws.prepare(request)
    return ws


async def echo(request: web.Request) -> web.WebSocketResponse:
    return await _echo(await _accept(request))


async def slow(request: web.Request) -> web.WebSocketResponse:
    await asyncio.sleep(float(request.query.get("wait", "0.3")))
    return await _echo(await _accept(request))


async def greet(request: web.Request) -> web.WebSocketResponse:
    ws = await _accept(request)
    for number in range(int(request.query.get("count", "3"))):
        await ws.send_str(f"push {number}")
    return await _echo(ws)


async def announce(request: web.Request) -> web.WebSocketResponse:
    ws = await _accept(request)
    await asyncio.sleep(0.05)
    await ws.send_json({"type": "connection_established"})
    return await _echo(ws)


async def protocol(request: web.Request) -> web.WebSocketResponse:
    offered = [item.strip() for item in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if item]
    return await _echo(await _accept(request, protocols=offered[-1:]))


async def close(request: web.Request) -> web.WebSocketResponse:
    ws = await _accept(request)
    code, reason = request.query.get("code", "4401"), request.query.get("reason", "token expired")
    await ws.close(code=int(code), message=reason.encode())
    return ws


async def reject(request: web.Request) -> web.Response:
    raise web.HTTPForbidden(text="not you")


async def config(request: web.Request) -> web.Response:
    return web.json_response({"heartbeat_s": 25, "protocols": ["chat"]})


def main(port: int) -> None:
    app = web.Application()
    for handler in (echo, slow, greet, announce, protocol, close, reject, config):
        app.router.add_get(f"/ws/{handler.__name__}", handler)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
