"""The admin listener: health, metrics, sessions, policy and events, all read-only."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.admin.access import AdminAccess, Door
from proxy.admin.answers import answer, headers, refusal
from proxy.admin.health import HEALTH_NAMES, as_json, health
from proxy.telemetry.prometheus import CONTENT_TYPE as PROMETHEUS

if TYPE_CHECKING:
    from proxy.admin.state import AdminState, SessionSnapshot

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HEARTBEAT_S = 15.0
_ALLOWED = ("GET", "HEAD")
_JSON = "application/json"
_ENDPOINTS = {
    "/livez": "is the process alive (200 or 503)",
    "/readyz": "are new sessions welcome (200 or 503)",
    "/startupz": "is the start over (200 or 503)",
    "/metrics": "metrics in the Prometheus text format",
    "/sessions": "sessions now, as JSON",
    "/policy": "the effective policy, as YAML",
    "/events": "handshakes and sessions as they end, server-sent events",
}


def build(state: AdminState, heartbeat_s: float = HEARTBEAT_S, access: AdminAccess | None = None) -> Handler:
    """Return the request handler of the admin listener, for `aiohttp.web.Server`.

    `access`: who may ask; None: whoever can connect, as to a worker's socket.
    """
    app = _Admin(state, heartbeat_s)
    return app.handle if access is None else guarded(app.handle, access)


def guarded(handler: Handler, access: AdminAccess) -> Handler:
    """Return a handler that asks `handler` for those who are let in."""
    door = Door(access, time.monotonic)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return door.refuse(request) or await handler(request)

    return handle


class _Admin:
    def __init__(self, state: AdminState, heartbeat_s: float) -> None:
        self._state = state
        self._heartbeat_s = heartbeat_s
        self._pages: dict[str, Callable[[], web.Response]] = {
            "/": self._index,
            "/metrics": lambda: answer(state.metrics_text().encode(), PROMETHEUS),
            "/policy": lambda: answer(state.policy_text().encode(), "application/yaml; charset=utf-8"),
            "/sessions": self._sessions,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path not in self._pages and path not in _ENDPOINTS:
            return refusal(HTTPStatus.NOT_FOUND, f"the admin listener has {', '.join(_ENDPOINTS)}")
        if request.method not in _ALLOWED:
            refused = refusal(HTTPStatus.METHOD_NOT_ALLOWED)
            refused.headers["Allow"] = ", ".join(_ALLOWED)
            return refused
        if path == "/events":
            return await self._events(request)
        name = path.removeprefix("/")
        if name in HEALTH_NAMES:
            status, body = health(self._state, name)
            return answer(body, _JSON, status)
        return self._pages[path]()

    def _index(self) -> web.Response:
        lines = [f"{path:<12}{what}" for path, what in _ENDPOINTS.items()]
        return answer(("readygate\n\n" + "\n".join(lines) + "\n").encode(), "text/plain; charset=utf-8")

    def _sessions(self) -> web.Response:
        return answer(as_json({"sessions": [_session(one) for one in self._state.sessions()]}), _JSON)

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        feed = self._state.feed
        if feed.full:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many listeners, or stopping")
        of_stream = headers("text/event-stream; charset=utf-8") | {"X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=of_stream)
        if request.method == "HEAD":
            return response
        with feed.subscribe() as listener:
            await response.prepare(request)
            try:
                await response.write(b": readygate events\n\n")  # the reader sees that it is connected
                while (told := await listener.take(self._heartbeat_s)) is not None:
                    await response.write(told)
            except ConnectionError:
                pass  # the reader left
        return response


def _session(one: SessionSnapshot) -> dict[str, object]:
    return asdict(one) | {"age_s": round(one.age_s, 3)}
