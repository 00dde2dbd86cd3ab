"""What a gate builds of one policy: the parser for new connections, the pool of plain HTTP, the door.

A reload makes a new generation. Open connections stay with the one that they came in by, but each request is
served by the newest; the pool of an old one is closed when the last request that it serves has ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.edge.accept import Acceptor
from proxy.edge.http import PassThrough, http_server
from proxy.edge.takeover import answered, with_head_deadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from proxy.edge.shared import Shared


class Generation:
    """Built of the policy and the TLS settings that `shared` has now. Make it in a running loop.

    `server` keeps the connections that came in by it, `protocol` makes one more; they hand their requests to
    `handler`, whichever generation that is, and it calls `handle` of the newest.
    """

    def __init__(
        self,
        shared: Shared,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        health: Callable[[str], Awaitable[web.StreamResponse]],
        scheme: str,
    ) -> None:
        settings = shared.policy.default.settings
        http = settings.http
        self._passes = PassThrough(
            shared.upstream,
            connections=http.connections,
            connect_timeout_s=settings.upstream.connect_timeout_s,
            response_timeout_s=http.response_timeout_s,
            body_idle_s=http.body_idle_s,
            max_line_bytes=http.max_line_bytes,
            max_field_bytes=http.max_field_bytes,
            max_headers=http.max_headers,
            tls=shared.tls,
            server_name=settings.upstream.tls.server_name,
            first_hop=http.forwarded == "replace",
        )
        self._acceptor = Acceptor(shared, self._passes, health, scheme)
        self.server = http_server(
            handler,
            keepalive_s=http.keepalive_s,
            max_line_bytes=http.max_line_bytes,
            max_field_bytes=http.max_field_bytes,
            max_headers=http.max_headers,
        )
        self.protocol = with_head_deadline(self.server, http.header_deadline_s, http.body_idle_s, shared.room)
        self._requests = 0
        self._retiring: asyncio.Task[None] | None = None
        self._retired = False

    @property
    def over(self) -> bool:
        """Whether nothing is left of it: retired, its pool closed, no connection that came in by it."""
        return self._retiring is not None and self._retiring.done() and not self.server.connections

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request by this generation's policy."""
        self._requests += 1
        try:
            return await self._acceptor.handle(request)
        finally:
            self._requests -= 1
            answered(request)
            self._check_over()

    def retire(self) -> None:
        """Let another generation serve from now on; the pool is closed with the last request under way."""
        self._retired = True
        self._check_over()

    async def close(self) -> None:
        """Close the pool, whoever still uses it."""
        await self._passes.close()

    def _check_over(self) -> None:
        if self._retired and not self._requests and self._retiring is None:
            self._retiring = asyncio.create_task(self._passes.close())
