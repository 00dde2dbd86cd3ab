"""Stand-ins for the services that the backend needs: a session store and a price service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PRICES: Final = tuple({"symbol": symbol, "price": 100 + place} for place, symbol in enumerate("ABC"))
_LOOKUP_S: Final = 0.12
_RANGE: Final = (20_000, 32_000)  # below what outgoing connections take, so that a refused port stays refused


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(*_RANGE)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


class Service:
    """A service that answers each line with a line after `delay_s`. `up` and `down` as often as wanted."""

    def __init__(self, answer: Callable[[str], str], delay_s: float) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self._port = free_port()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, also while nobody listens there."""
        return f"127.0.0.1:{self._port}"

    async def up(self) -> None:
        """Listen."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=1024)

    def down(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            question = (await reader.readline()).decode().strip()
            await asyncio.sleep(self._delay_s)
            writer.write(f"{self._answer(question)}\n".encode())
            await writer.drain()
        writer.close()


def session_store() -> Service:
    """A slow one: every lookup takes 120 ms."""
    return Service(lambda name: f"user {name}", _LOOKUP_S)


def price_service() -> Service:
    """Answers at once with all prices."""
    return Service(lambda _: json.dumps(PRICES), 0.0)
