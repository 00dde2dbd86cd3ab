"""An ordinary FastAPI application with WebSocket endpoints, as people write them. It knows of no proxy.

Served by uvicorn, hypercorn and daphne. Every endpoint is a habit found in the field; none is written to
make a connect-time fault easier or harder to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse
from starlette.websockets import WebSocketState

app = FastAPI()
logger = logging.getLogger("chat")

arrived: set[str] = set()
connected: set[str] = set()
inbox: dict[str, list[str]] = defaultdict(list)
visits: dict[str, dict] = {}


async def _echo(ws: WebSocket) -> None:
    try:
        while True:
            message = await ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await ws.send_text(message["text"])
            else:
                await ws.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass


@app.websocket("/ws/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    await _echo(ws)


@app.websocket("/ws/slow")
async def slow(ws: WebSocket, wait: float = 0.3) -> None:
    await asyncio.sleep(wait)  # a session is loaded from a database
    await ws.accept()
    await _echo(ws)


@app.websocket("/ws/greet")
async def greet(ws: WebSocket, count: int = 3) -> None:
    await ws.accept()
    for number in range(count):
        await ws.send_text(f"push {number}")
    await _echo(ws)


@app.websocket("/ws/announce")
async def announce(ws: WebSocket, wait: float = 0.05) -> None:
    await ws.accept()
    await asyncio.sleep(wait)
    await ws.send_json({"type": "connection_established"})
    await _echo(ws)


@app.websocket("/ws/protocol")
async def protocol(ws: WebSocket) -> None:
    offered = ws.scope["subprotocols"]
    await ws.accept(
        subprotocol=offered[-1] if offered else None, headers=[(b"x-offered", str(len(offered)).encode())]
    )
    await _echo(ws)


@app.websocket("/ws/request")
async def request_as_it_came(ws: WebSocket) -> None:
    """Say what the upgrade request was like; agrees to the first subprotocol."""
    offered = ws.scope["subprotocols"]
    await ws.accept(subprotocol=offered[0] if offered else None)
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in ws.scope["headers"]]
    query = ws.scope["query_string"].decode()
    await ws.send_json({"fields": fields, "query": query, "offered": offered})
    await _echo(ws)


@app.websocket("/ws/close")
async def close(ws: WebSocket, code: int = 4401, reason: str = "token expired") -> None:
    await ws.accept()
    await ws.close(code, reason)


@app.websocket("/ws/reject")
async def reject(ws: WebSocket) -> None:
    await ws.close(4403)


@app.websocket("/ws/denied")
async def denied(ws: WebSocket) -> None:
    raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})


@app.websocket("/ws/crash")
async def crash(ws: WebSocket) -> None:
    raise RuntimeError("the database is not up yet")


@app.websocket("/ws/loop")
async def loop(ws: WebSocket) -> None:
    await ws.accept()
    while ws.client_state == WebSocketState.CONNECTED:
        try:
            text = await ws.receive_text()
            await ws.send_text(text)
        except WebSocketDisconnect:
            continue


@app.websocket("/ws/ingest/{device}")
async def ingest(ws: WebSocket, device: str, wait: float = 0.3) -> None:
    arrived.add(device)
    await asyncio.sleep(wait)
    try:
        await ws.accept()
        connected.add(device)
        async for text in ws.iter_text():
            inbox[device].append(text)
    except Exception:
        logger.exception("device %s failed", device)


@app.get("/ws/ingest")
async def ingested() -> dict[str, object]:
    return {"arrived": sorted(arrived), "connected": sorted(connected), "inbox": inbox}


@app.websocket("/ws/ask/{who}")
async def ask(ws: WebSocket, who: str, wait: float = 0.03, parts: int = 1) -> None:
    """Answer in parts, each of which takes a while: one look-up, or the tokens of a language model."""
    await ws.accept()
    visit = visits.setdefault(who, {"open": 0, "said": [], "codes": []})
    visit["open"] += 1
    try:
        while ws.client_state == WebSocketState.CONNECTED:
            try:
                text = await ws.receive_text()
                visit["said"].append(text)
                for part in range(parts):
                    await asyncio.sleep(wait)
                    await ws.send_text(f"{text}/{part}")
            except WebSocketDisconnect as left:
                visit["codes"].append(left.code)
                continue
    finally:
        visit["open"] -= 1


@app.get("/ws/ask")
async def asked() -> dict[str, dict]:
    return visits


@app.get("/ws/config")
async def config() -> dict[str, object]:
    return {"heartbeat_s": 25, "protocols": ["chat"]}


@app.get("/ws/health", response_class=PlainTextResponse)
async def health() -> str:
    return "ok"


@app.post("/items", status_code=201)
async def items(request: Request) -> dict[str, object]:
    body = await request.body()
    return {"bytes": len(body), "text": body[:64].decode(), "query": request.url.query}


@app.get("/whoami")
async def whoami(request: Request) -> dict[str, object]:
    return {"headers": dict(request.headers.items())}
