"""A connection that is accepted only to be told why it may not stay.

A page in a browser learns nothing of the HTTP status that an upgrade was refused with, but it can read a
message and a close code. So the client gets its 101, one message, and a Close.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from proxy.core.frames import CLOSE, TEXT, FrameWalker, close_frame, frame
from proxy.edge.switching import eager_response
from proxy.edge.takeover import Inbound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from proxy.edge.switching import Offer

# How long a client may take to answer the Close, and to take what was written.
_ANSWER_S: Final = 5.0
_FLUSH_S: Final = 1.0
_MARKER: Final = "jwt-auth"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def agreeable(offered: Sequence[str], prefixes: Sequence[str]) -> str | None:
    """Return the subprotocol to agree to: `jwt-auth` if it is offered, else the first that is no token.

    A browser fails a handshake that agrees to none of those that its page offered. A token is never said
    back; where nothing else is offered there is nothing to agree to.
    """
    names = [name for name in offered if _NAME.fullmatch(name) and not name.startswith(tuple(prefixes))]
    return _MARKER if _MARKER in names else next(iter(names), None)


class Farewell(asyncio.Protocol):
    """Takes an upgrade request's connection over and ends it properly. `done` when it is gone."""

    def __init__(self, request: web.BaseRequest, offer: Offer, subprotocol: str | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._walker = FrameWalker()
        self._head = eager_response(offer, subprotocol)
        self._ending: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        inbound = Inbound(request, self)
        self._transport = inbound.transport
        self._tail = inbound.tail
        inbound.forget()

    def say(self, message: bytes, code: int, reason: str) -> None:
        """Write the 101, the message and the Close; then wait for the client's own Close, not for long."""
        if self._transport is None or self._transport.is_closing():
            self.connection_lost(None)
            return
        goodbye = frame(TEXT, message) + close_frame(code, reason)
        self._transport.write(self._head + goodbye)
        self._ending = self._loop.call_later(_ANSWER_S, self._end)
        self.data_received(self._tail)

    def data_received(self, data: bytes) -> None:
        """Discard what the client says, up to its Close: RFC 6455 section 7.1.1, the server closes first."""
        self._walker.feed(data)
        if any(notice.opcode == CLOSE for notice in self._walker.notices):
            self._end()
        self._walker.notices.clear()

    def eof_received(self) -> bool:
        """Close, too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """Stop waiting."""
        if self._ending is not None:
            self._ending.cancel()
        if not self.done.done():
            self.done.set_result(None)

    def _end(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._ending is None:
            return
        self._ending.cancel()
        self._transport.close()
        self._ending = self._loop.call_later(_FLUSH_S, self._transport.abort)
