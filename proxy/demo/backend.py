"""An ordinary Starlette application, as people write them: it knows nothing of a gate.

It looks a session up before it accepts, asks a second service for prices after it accepted, pushes them at
once, and logs its errors. `SESSION_STORE` and `PRICE_SERVICE` (HOST:PORT) say where the
services are that it needs. Run by `python -m uvicorn proxy.demo.backend:app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("chat")
visits: Counter[str] = Counter()


@contextlib.contextmanager
def visit() -> Iterator[None]:
    """Count who came and who is here."""
    visits["total"] += 1
    visits["open"] += 1
    try:
        yield
    finally:
        visits["open"] -= 1


async def ask(service: str, question: str) -> str:
    """Ask one of our services; fails as connections fail while it is not up."""
    host, _, port = os.environ[service].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{question}\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


async def echo(websocket: WebSocket) -> None:
    """Say everything again."""
    await websocket.accept()
    with visit(), contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


async def chat(websocket: WebSocket) -> None:
    """Find out who it is, then talk."""
    with visit():
        try:
            user = await ask("SESSION_STORE", websocket.cookies.get("session", "guest"))
            await websocket.accept()
            while True:
                text = await websocket.receive_text()
                await websocket.send_text(f"{user}: {text}")
        except WebSocketDisconnect:
            logger.debug("a guest left")
        except Exception:
            logger.exception("chat failed")
            raise


async def prices(websocket: WebSocket) -> None:
    """Push all prices at once, then stay."""
    await websocket.accept()
    with visit():
        try:
            found = json.loads(await ask("PRICE_SERVICE", "all"))
        except OSError as error:
            logger.error("no prices: %s", error)  # noqa: TRY400 - no traceback for what happens every day
            await websocket.close(1011)
            return
        with contextlib.suppress(WebSocketDisconnect):
            for price in found:
                await websocket.send_json(price)
            while True:
                await websocket.receive_text()


async def stats(_: Request) -> JSONResponse:
    """Tell how many came and how many are here."""
    return JSONResponse({"total": visits["total"], "open": visits["open"]})


async def home(_: Request) -> PlainTextResponse:
    """Tell what there is."""
    return PlainTextResponse("WebSockets: /ws/echo /ws/chat /ws/prices\nHTTP: /ws/stats\n")


app = Starlette(
    routes=[
        Route("/", home),
        Route("/ws/stats", stats),
        WebSocketRoute("/ws/echo", echo),
        WebSocketRoute("/ws/chat", chat),
        WebSocketRoute("/ws/prices", prices),
    ]
)
