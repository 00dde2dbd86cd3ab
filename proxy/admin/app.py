"""The admin listener: health, metrics, sessions, policy and events, all read-only."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.admin.answers import answer, headers, refusal
from proxy.admin.door import guarded
from proxy.admin.files import ENDPOINTS, STREAM, is_of_page, page
from proxy.admin.health import HEALTH_NAMES, as_json, health
from proxy.admin.live import Live, all_of, session
from proxy.telemetry.prometheus import CONTENT_TYPE as PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from proxy.admin.access import AdminAccess
    from proxy.admin.door import Handler
    from proxy.admin.events import Listener
    from proxy.admin.state import AdminState

HEARTBEAT_S = 15.0
_ALLOWED = ("GET", "HEAD")
_JSON = "application/json"


def build(state: AdminState, heartbeat_s: float = HEARTBEAT_S, access: AdminAccess | None = None) -> Handler:
    """Return the request handler of the admin listener, for `aiohttp.web.Server`.

    `access`: who may ask; None: whoever can connect, as to a worker's socket.
    """
    app = _Admin(state, heartbeat_s)
    return app.handle if access is None else guarded(app.handle, access)


class _Admin:
    def __init__(self, state: AdminState, heartbeat_s: float) -> None:
        self._state = state
        self._heartbeat_s = heartbeat_s
        self._streams: dict[str, Callable[[], AbstractContextManager[Listener]]] = {
            "/events": state.feed.subscribe,
            STREAM: Live(state).watch,
        }
        self._pages: dict[str, Callable[[], web.Response]] = {
            "/metrics": lambda: answer(state.metrics_text().encode(), PROMETHEUS),
            "/policy": lambda: answer(state.policy_text().encode(), "application/yaml; charset=utf-8"),
            "/sessions": lambda: answer(as_json({"sessions": [*map(session, state.sessions())]}), _JSON),
            "/handshakes": lambda: answer(as_json(all_of(state, state.handshakes())), _JSON),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path not in ENDPOINTS and path not in self._streams and not is_of_page(path):
            return refusal(HTTPStatus.NOT_FOUND, f"the admin listener has {', '.join(ENDPOINTS)}")
        if request.method not in _ALLOWED:
            refused = refusal(HTTPStatus.METHOD_NOT_ALLOWED)
            refused.headers["Allow"] = ", ".join(_ALLOWED)
            return refused
        if path in self._streams:
            return await self._events(request, self._streams[path])
        if path == "/" or is_of_page(path):
            return page(request)
        name = path.removeprefix("/")
        if name in HEALTH_NAMES:
            status, body = health(self._state, name)
            return answer(body, _JSON, status)
        return self._pages[path]()

    async def _events(
        self, request: web.BaseRequest, listen: Callable[[], AbstractContextManager[Listener]]
    ) -> web.StreamResponse:
        feed = self._state.feed
        if feed.full:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many listeners, or stopping")
        of_stream = headers("text/event-stream; charset=utf-8") | {"X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=of_stream)
        if request.method == "HEAD":
            return response
        with listen() as listener:
            await response.prepare(request)
            try:
                await response.write(b": readygate events\n\n")  # the reader sees that it is connected
                while (told := await listener.take(self._heartbeat_s)) is not None:
                    await response.write(told)
            except ConnectionError:
                pass  # the reader left
        return response
