"""One plain HTTP request under way: its body, and what the client hears before the response."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp.http import HttpVersion11

from proxy.edge.headers import end_to_end, serialize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp
    from aiohttp import web
    from aiohttp.http import RawResponseMessage

    Complain = Callable[[str, dict[str, object]], None]

# RFC 9110 section 10.1.1: "a client SHOULD NOT wait for an indefinite period before sending the content". Nor
# do we, for upstreams that ignore the expectation. curl waits as long.
_CONTINUE_WAIT_S = 1.0


class BodyTooSlowError(Exception):
    """The client stopped in the midst of its request's body."""


@dataclass(slots=True)
class Exchange:
    """One request under way: what its body and its answer must know of each other.

    `wire` and `chunked` as in `Head`. `proceed` is for a client that waits to be asked for its body: it is
    done when it was asked, or began without. `complain` gets a message and fields when something goes wrong.
    """

    request: web.BaseRequest
    wire: bytes
    chunked: bool
    has_body: bool
    proceed: asyncio.Future[None] | None
    complain: Complain
    response: aiohttp.ClientResponse | None = None
    asked_for_body: bool = False
    client_error: Exception | None = None

    async def body(self, idle_s: float | None = None) -> AsyncIterator[bytes]:
        """Yield the request's body as it comes; ask the client for it first if it waits to be asked.

        It fails with BodyTooSlowError when the client is silent for `idle_s`.
        """
        proceed = self.proceed
        if proceed is not None:
            await asyncio.wait([proceed], timeout=_CONTINUE_WAIT_S)
            if not proceed.done():
                if self.response is not None:
                    # The body is not wanted. The upload is cancelled when the response ends.
                    await asyncio.get_running_loop().create_future()
                self.asked_for_body = True
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
                proceed.set_result(None)
        try:
            while chunk := await self._part(idle_s):
                yield chunk
        except Exception as error:
            self._break_off(error)
            raise

    async def _part(self, idle_s: float | None) -> bytes:
        """Return what came of the request's body, b"" at its end. Raise BodyTooSlowError for a silent client.

        While the upstream takes nothing, nobody asks; once it has answered, the client may say what is left
        of it at any time.
        """
        content = self.request.content
        try:
            async with asyncio.timeout(None if self.response is not None else idle_s):
                return await content.readany()
        except TimeoutError:
            if self.response is None:
                raise BodyTooSlowError from None
            return await content.readany()

    def interim(self, message: RawResponseMessage) -> None:
        """Pass an interim response of the upstream on, as RFC 9110 section 15.2 wants it of a proxy.

        "A server MUST NOT send a 1xx response to an HTTP/1.0 client."
        """
        goes_on = message.code == HTTPStatus.CONTINUE
        awaited = goes_on and self.proceed is not None and not self.proceed.done()
        ours = goes_on and self.asked_for_body
        # A client that does not read loses what it can do without, so that it cannot pile up.
        takes = awaited or not self.request.protocol.writing_paused
        if self.request.version >= HttpVersion11 and takes and not ours:
            start_line = f"HTTP/1.1 {message.code} {message.reason}".encode("utf-8", "surrogateescape")
            with contextlib.suppress(ValueError):  # what could be read in two ways is not passed on
                self._write(serialize(start_line, end_to_end(message.raw_headers)))
        if awaited and self.proceed is not None:
            self.proceed.set_result(None)

    def _break_off(self, error: Exception) -> None:
        """End both halves: the request cannot be completed, so a response under way will not be, either."""
        self.client_error = error
        if self.response is not None:
            self.response.close()

    def _write(self, wire: bytes) -> None:
        """Write to the client before its response begins."""
        transport = self.request.transport
        if transport is not None and not transport.is_closing():
            transport.write(wire)
