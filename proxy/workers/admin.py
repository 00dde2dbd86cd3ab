"""The one admin port of several workers: their answers put together, each with its worker's number."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from proxy.admin.answers import answer as whole
from proxy.admin.answers import headers, refusal
from proxy.admin.door import guarded
from proxy.admin.events import encode
from proxy.admin.files import STREAM, is_of_page, page
from proxy.admin.health import HEALTH_NAMES, as_json
from proxy.telemetry import recent

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from proxy.admin import AdminAccess

# A worker that does not answer its admin listener within this is not well.
_ANSWER_S = 2.0
_STREAMS = ("/events", STREAM)
# How long until a worker that was gone is looked for again.
_AGAIN_S = 1.0
_EVENT_END = b"\n\n"
_EVENT_LIMIT_BYTES = 1 << 23
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (.*)")
_FAMILY_SUFFIX = re.compile(r"_(bucket|sum|count)$")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a worker said. Status 503 with an empty body: nothing."""

    worker: int
    status: int
    body: bytes
    content_type: str


@asynccontextmanager
async def serve_admin(sock: socket.socket, paths: Sequence[Path], access: AdminAccess) -> AsyncIterator[None]:
    """Serve the admin endpoints for the workers with these admin sockets, from 1 on, on a bound socket.

    `access`: who may ask. The workers themselves answer whoever can reach their sockets.
    """
    async with AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S)
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout)
            )
            for path in paths
        ]
        handler = guarded(_Merged(sessions).handle, access)
        server = web.Server(handler, access_log=None, handler_cancellation=True)
        listening = await asyncio.get_running_loop().create_server(server, sock=sock)
        try:
            yield
        finally:
            listening.close()
            await server.shutdown(0.1)


class _Merged:
    def __init__(self, sessions: list[aiohttp.ClientSession]) -> None:
        self._sessions = sessions
        self._numbers = range(1, len(sessions) + 1)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request: merged where that means something, else as the first worker that answers."""
        name = request.path.removeprefix("/")
        if request.method == "GET" and request.path in _STREAMS:
            return await self._events(request)
        if request.method in {"GET", "HEAD"} and (request.path == "/" or is_of_page(request.path)):
            return page(request)
        answers = await asyncio.gather(*(self._ask(number, request) for number in self._numbers))
        if request.method == "GET" and name in HEALTH_NAMES:
            return _health(answers)
        told = [answer for answer in answers if answer.body or answer.status < HTTPStatus.BAD_REQUEST]
        if not told:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")
        return _merged(name, told) if request.method == "GET" else _response(told[0])

    async def _ask(self, number: int, request: web.BaseRequest) -> _Answer:
        try:
            async with (
                asyncio.timeout(_ANSWER_S),
                self._sessions[number - 1].request(request.method, f"http://worker{request.path}") as answer,
            ):
                kind = answer.headers.get("Content-Type", "text/plain")
                return _Answer(number, answer.status, await answer.read(), kind)
        except (aiohttp.ClientError, OSError):
            return _Answer(number, HTTPStatus.SERVICE_UNAVAILABLE, b"", "application/json")

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass on whole events of all workers as they come, each with its worker's number.

        `/events` ends when all have ended. The page is told which worker is gone, and that it is back.
        """
        of_stream = headers("text/event-stream; charset=utf-8") | {"X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=of_stream)
        await response.prepare(request)
        follow = self._keep_following if request.path == STREAM else self._follow
        with suppress(ConnectionError):  # the reader has gone
            await asyncio.gather(*(follow(number, request.path, response) for number in self._numbers))
        return response

    async def _keep_following(self, number: int, path: str, response: web.StreamResponse) -> None:
        """Follow a worker, and the one that replaces it, for as long as there is a reader."""
        while True:
            await self._follow(number, path, response)
            await response.write(encode("gone", {"worker": number}))
            await asyncio.sleep(_AGAIN_S)

    async def _follow(self, number: int, path: str, response: web.StreamResponse) -> None:
        held, data, of_worker = b"", b"\ndata: {", b'\ndata: {"worker":%d,' % number
        try:
            async with self._sessions[number - 1].get(f"http://worker{path}") as answer:
                if answer.status != HTTPStatus.OK:
                    return
                async for chunk in answer.content.iter_any():
                    whole, end, held = (held + chunk).rpartition(_EVENT_END)
                    if whole or end:
                        told = (whole + end).replace(data, of_worker)  # JSON has no line breaks
                        await response.write(told)
                    if len(held) > _EVENT_LIMIT_BYTES:
                        return
        except (aiohttp.ClientError, OSError):
            return  # the worker or the reader has gone


def merge_metrics(texts: Sequence[tuple[int, str]]) -> str:
    """Merge Prometheus expositions, each with its worker's number, which becomes the label `worker`.

    Prometheus wants all samples of a family together, after its HELP and TYPE.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts:
        current = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                current = line.split(" ", 3)[2]
                heads, _ = families.setdefault(current, ([], []))
                if line not in heads and len(heads) < len(("HELP", "TYPE")):
                    heads.append(line)
            elif match := _SAMPLE.fullmatch(line):
                name, labels, value = match.groups()
                known = name == current or _FAMILY_SUFFIX.sub("", name) == current
                _, samples = families.setdefault(current if known else name, ([], []))
                samples.append(f'{name}{{{labels + "," if labels else ""}worker="{worker}"}} {value}')
    return "".join(f"{line}\n" for heads, samples in families.values() for line in (*heads, *samples))


def _merged(name: str, told: Sequence[_Answer]) -> web.Response:
    first = told[0]
    if first.status == HTTPStatus.OK:
        if name in _LISTS:
            return _response(_Answer(0, 200, as_json({name: _LISTS[name](told)}), first.content_type))
        if name == "metrics":
            return _response(_Answer(0, 200, merge_metrics(_texts(told)).encode(), first.content_type))
    return _response(first)


def _texts(answers: Sequence[_Answer]) -> list[tuple[int, str]]:
    return [(answer.worker, answer.body.decode()) for answer in answers if answer.status == HTTPStatus.OK]


def _all(answers: Sequence[_Answer], name: str) -> list[dict[str, Any]]:
    return [
        entry | {"worker": answer.worker}
        for answer in answers
        if answer.status == HTTPStatus.OK
        for entry in json.loads(answer.body)[name]
    ]


def _handshakes(answers: Sequence[_Answer]) -> list[dict[str, Any]]:
    """Return the last of all of them."""
    return sorted(_all(answers, "handshakes"), key=itemgetter("began"))[-recent.MOST :]


_LISTS = {"sessions": lambda answers: _all(answers, "sessions"), "handshakes": _handshakes}


def _health(answers: Sequence[_Answer]) -> web.Response:
    """200 only if all workers say so; and what each of them said."""
    well = all(answer.status == HTTPStatus.OK for answer in answers)
    workers = [
        {"worker": answer.worker, **(json.loads(answer.body) if answer.body else {"status": "unavailable"})}
        for answer in answers
    ]
    body = as_json({"status": "ok" if well else "unavailable", "workers": workers})
    return _response(_Answer(0, 200 if well else 503, body, "application/json"))


def _response(answer: _Answer) -> web.Response:
    return whole(answer.body, answer.content_type, answer.status)
