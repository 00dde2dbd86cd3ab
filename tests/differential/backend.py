"""A backend of raw sockets: writes down every byte of what it gets, answers what it was told to.

Two ports: on the first it serves HTTP, on the second it is told how to answer the next requests, and asked
what it got. One exchange at a time; what is asked for `/in-step` is answered in one way always.
`python -m tests.differential.backend PORT CONTROL_PORT`.

An order is a line of JSON on the control port, and so is what comes back:

    {"answers": [[step, ...], ...]}   forget what was; so are the next requests answered, in order
    {"body": N}                       comes back when N bytes of the newest request's body are here
    {"go": true}                      let a step "go" pass
    {"report": true}                  comes back when no request is under way: all of them, in order

A step is ["send", base64], ["body"] (wait for the end of the request's body), ["go"], ["close"], ["reset"],
or ["gone"] (wait until the other end is gone). After its steps a connection goes on with the next request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nin step"
IN_STEP = [["body"], ["send", base64.b64encode(OK).decode()]]
ENDS = (asyncio.IncompleteReadError, ConnectionError, ValueError)
LIMIT = 1 << 22


@dataclass
class Request:
    """One request, as its bytes were."""

    head: bytes
    framing: str = "none"
    body: bytearray = field(default_factory=bytearray)
    trailers: bytes = b""
    whole: bool = False
    gone: bool = False

    def told(self) -> dict[str, Any]:
        return {
            "head": base64.b64encode(self.head).decode(),
            "framing": self.framing,
            "body": base64.b64encode(self.body).decode(),
            "trailers": base64.b64encode(self.trailers).decode(),
            "whole": self.whole,
            "gone": self.gone,
        }


class Case:
    """One exchange: how its requests are answered, and what they were."""

    def __init__(self, answers: list[list[list[str]]]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.under_way = 0
        self.go = asyncio.Semaphore(0)
        self.news = asyncio.Condition()

    async def notify(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        request = Request(head)
        self.requests.append(request)
        self.under_way += 1
        await self.notify()
        steps = IN_STEP if head.startswith(b"GET /in-step ") or not self.answers else self.answers.pop(0)
        reading = asyncio.create_task(self.read_body(request, reader))
        try:
            for step, *arguments in steps:
                await self.do(step, arguments, request, reading, reader, writer)
                if writer.is_closing():
                    return
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self.under_way -= 1
            await self.notify()

    async def do(
        self,
        step: str,
        arguments: list[str],
        request: Request,
        reading: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if step == "send":
            writer.write(base64.b64decode(arguments[0]))
            await writer.drain()
        elif step == "body":
            await reading
        elif step == "go":
            await self.go.acquire()
        elif step == "close":
            writer.close()
        elif step == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif step == "gone":
            with contextlib.suppress(*ENDS):
                await reading
                while await reader.read(65536):
                    pass
            request.gone = True
            writer.close()

    async def read_body(self, request: Request, reader: asyncio.StreamReader) -> None:
        """Read a body to its end by its framing (RFC 9112 section 6.3)."""
        head = request.head.lower()
        if re.search(rb"\r\ntransfer-encoding:[^\r]*chunked", head):
            request.framing = "chunked"
            while size := int((await reader.readline()).split(b";")[0], 16):
                await self.take(request, reader, size)
                await reader.readexactly(2)
            while (line := await reader.readline()) != b"\r\n":
                request.trailers += line
        elif match := re.search(rb"\r\ncontent-length:[ \t]*(\d+)", head):
            request.framing = "length"
            await self.take(request, reader, int(match[1]))
        request.whole = True
        await self.notify()

    async def take(self, request: Request, reader: asyncio.StreamReader, size: int) -> None:
        while size:
            part = await reader.read(min(size, 65536))
            if not part:
                raise asyncio.IncompleteReadError(b"", size)
            request.body += part
            size -= len(part)
            await self.notify()


class Backend:
    """Serves requests for the case of the moment."""

    def __init__(self) -> None:
        self.case = Case([])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        with contextlib.suppress(*ENDS):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n")
                if head == b"\r\n":
                    continue  # RFC 9112 section 2.2: a server "SHOULD ignore at least one empty line"
                while not head.endswith(b"\r\n\r\n"):
                    head += await reader.readuntil(b"\r\n")
                await self.case.serve(head, reader, writer)
        writer.close()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Orders, one after the other."""
        while line := await reader.readline():
            writer.write(json.dumps(await self.obey(json.loads(line))).encode() + b"\n")
        writer.close()

    async def obey(self, order: dict[str, Any]) -> Any:
        if "answers" in order:
            self.case = Case(order["answers"])
            return True
        case = self.case
        if "go" in order:
            case.go.release()
            return True
        async with case.news:
            if "body" in order:
                await case.news.wait_for(
                    lambda: case.requests and len(case.requests[-1].body) >= order["body"]
                )
                return True
            await case.news.wait_for(lambda: not case.under_way)
            return [request.told() for request in case.requests]


async def main(port: int, control: int) -> None:
    backend = Backend()
    async with (
        await asyncio.start_server(backend.serve, "127.0.0.1", port, limit=LIMIT),
        await asyncio.start_server(backend.listen, "127.0.0.1", control, limit=LIMIT) as orders,
    ):
        await orders.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
