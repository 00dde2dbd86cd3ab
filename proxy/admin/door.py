"""Letting requests of the admin listener in, or answering those that are not."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from proxy.admin.access import NO_TOKEN
from proxy.admin.answers import refusal
from proxy.guard import Quieter

if TYPE_CHECKING:
    from proxy.admin.access import AdminAccess

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("readygate.admin")
# RFC 9110 section 11.6.1: a 401 names every scheme that will do. Browsers know Basic, and ask the user.
_CHALLENGES: Final = ('Bearer realm="readygate"', 'Basic realm="readygate", charset="UTF-8"')


def guarded(handler: Handler, access: AdminAccess) -> Handler:
    """Return a handler that asks `handler` for those who are let in."""
    door = Door(access, time.monotonic)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return door.refuse(request) or await handler(request)

    return handle


class Door:
    """Lets requests in or refuses them. One a listener."""

    def __init__(self, access: AdminAccess, now_s: Callable[[], float]) -> None:
        """Ask `access`; `now_s` is a monotonic clock, for how often refusals are said in the log."""
        self._access = access
        self._quieter = Quieter()
        self._now_s = now_s

    def refuse(self, request: web.BaseRequest) -> web.Response | None:
        """Return the answer to a request that is not let in; None for one that is."""
        why = self._access.denial(request)
        if why is None:
            return None
        refused = self._quieter.refused(why, self._now_s())
        if refused is not None:
            fields = {"reason": why.name, "status": why.status, "refused": refused}
            _log.warning("admin request refused", extra={"fields": fields})
        response = refusal(HTTPStatus(why.status), why.detail)
        if why is NO_TOKEN:
            for challenge in _CHALLENGES:
                response.headers.add("WWW-Authenticate", challenge)
        response.force_close()
        return response
