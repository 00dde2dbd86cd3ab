"""An ASGI application that writes down what it heard and said, before it answers: the truth after a crash.

One WebSocket endpoint, `/ledger/ID`, whose both ends number their messages from 0:

- `c:N:...` from the client is journalled, then acknowledged with `a:N`;
- `s:N:...` is journalled, then pushed, one each `LEDGER_EVERY_S`; the client's `k:N` acknowledges it, and is
  journalled too;
- `bye` from the client ends the pushes; `z:N` answers it: N pushes were made.

The journal is the file `LEDGER_JOURNAL`, appended to with one write(2) a line, which a killed process cannot
take back. A line is `VISIT KIND ...`, and a visit is one accepted connection: `o ID`, `r N` (heard), `s N`
(pushed), `k N` (acknowledged), `x WHAT` (damaged), `e CODE` (over).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random

PUSHES_AHEAD = 32
EVERY_S = float(os.environ.get("LEDGER_EVERY_S", "1"))

_numbers = itertools.count(1)


def numbered(kind: str, identity: str, number: int) -> str:
    """Return message `number` of one direction: most are short, some need a longer header, all differ."""
    size = {5: 300, 11: 1000}.get(number % 16, 0)
    return f"{kind}:{number}:{(identity + '/') * (size // (len(identity) + 1))}"


class Journal:
    """The file. Nothing is buffered: what is written survives the process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class Visit:
    """One connection."""

    def __init__(self, journal: Journal, identity: str, receive, send) -> None:
        self._journal, self._identity = journal, identity
        self._receive, self._send = receive, send
        self._name = f"{os.getpid()}.{next(_numbers)}"
        self._pushed = self._acknowledged = 0
        self._leaving = asyncio.Event()
        self._pushing: asyncio.Task[None] | None = None

    def note(self, kind: str, *words: object) -> None:
        self._journal.write(self._name, kind, *words)

    async def stay(self) -> None:
        """Talk until the client is gone."""
        await self._receive()
        await self._send({"type": "websocket.accept"})
        self.note("o", self._identity)
        self._pushing = asyncio.create_task(self._push())
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                await self._hear(message.get("text") or "")
            self.note("e", message.get("code"))
        finally:
            self._pushing.cancel()

    async def _hear(self, text: str) -> None:
        rest = text.partition(":")[2]
        number = int(digits) if (digits := rest.partition(":")[0]).isdecimal() else -1
        if text == "bye":
            self._leaving.set()
            await self._pushing
            await self._say(f"z:{self._pushed}")
        elif text == f"k:{number}":
            self.note("k", number)
            self._acknowledged += 1
        elif text == numbered("c", self._identity, number):
            self.note("r", number)
            await self._say(f"a:{number}")
        else:
            self.note("x", repr(text[:60]))

    async def _push(self) -> None:
        """Push until the client wants to leave; never so much that it has not acknowledged."""
        while not self._leaving.is_set():
            if self._pushed - self._acknowledged < PUSHES_AHEAD:
                number, self._pushed = self._pushed, self._pushed + 1
                self.note("s", number)
                await self._say(numbered("s", self._identity, number))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S * random.uniform(0.5, 1.5)):
                    await self._leaving.wait()

    async def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # uvicorn's way to say that the client is gone
            await self._send({"type": "websocket.send", "text": text})


async def app(scope, receive, send) -> None:
    """Serve `/ledger/ID`; every HTTP request gets an empty 204."""
    if scope["type"] == "websocket":
        identity = scope["path"].rpartition("/")[2]
        journal = scope["state"]["journal"]
        await Visit(journal, identity, receive, send).stay()
    elif scope["type"] == "lifespan":
        await receive()
        scope["state"]["journal"] = Journal(os.environ["LEDGER_JOURNAL"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
