"""The app of compose.yaml: echoes what a client says, at /ws. Put your own in its place."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def home(_: object) -> PlainTextResponse:
    """Answer plain HTTP, which the gate passes through."""
    return PlainTextResponse("a WebSocket is at /ws\n")


async def echo(socket: WebSocket) -> None:
    """Say everything again until the client leaves."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(routes=[Route("/", home), WebSocketRoute("/ws", echo)])
