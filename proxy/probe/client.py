"""A raw WebSocket client that can say things at moments when no library would (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.core.frames import CLOSE, PING, PONG, TEXT, FrameWalker, close_frame, frame, parse_close
from proxy.probe.cases import Expect
from proxy.probe.reply import BadReplyError, read_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.probe.cases import Case
    from proxy.probe.target import Target

_CHUNK_BYTES: Final = 1 << 16
_KEEP_BYTES: Final = 1 << 10
_CLOSE_S: Final = 1.0  # how long a server may take for its Close
_LOST: Final = 1006


@dataclass(frozen=True, slots=True)
class Manner:
    """How to talk to one endpoint. `unasked`: messages that it sends without being spoken to."""

    message: bytes
    expect: Expect = Expect.ANY
    open_timeout_s: float = 15.0
    answer_timeout_s: float = 2.0
    unasked: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What one connection saw.

    Not opened: `status` (an HTTP rejection) or `failure` (a few words) says why; `reached` tells whether a
    connection stood at all. Opened: `open_ms` from the connect to the 101, `answer_ms` from our message
    to its answer (None: no answer), `messages` in all, `close_code` as it came (1005: a Close without one;
    1006: gone without a Close; None: still open when we left).
    """

    reached: bool = True
    status: int | None = None
    failure: str | None = None
    open_ms: float | None = None
    answer_ms: float | None = None
    messages: int = 0
    close_code: int | None = None


class Inbox:
    """Joins the data messages of a server, whose frames are not masked; the tap of a `FrameWalker`.

    Keeps `keep_bytes` of each: enough to tell an echo, whatever the size of what comes.
    """

    def __init__(self, keep_bytes: int) -> None:
        self.messages: list[bytes] = []
        self._keep = keep_bytes
        self._parts = bytearray()
        self._final = False

    def header(self, first: int, mask: bytes) -> None:  # noqa: ARG002 - the Tap protocol
        """Note whether this frame ends its message."""
        self._final = bool(first & 0x80)

    def payload(self, part: bytes) -> None:
        """Keep what there is room for."""
        self._parts += part[: self._keep - len(self._parts)]

    def end(self) -> None:
        """Complete a message with its last frame."""
        if self._final:
            self.messages.append(bytes(self._parts))
            self._parts.clear()


class Connection:
    """One connection, from its dial to its end. `open`, then speak and `listen`, then `leave`."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._started = time.perf_counter()  # uvloop's own clock counts whole ms
        self._walker = FrameWalker(controls=True)
        self._inbox = Inbox(max(_KEEP_BYTES, len(manner.message) + 1))
        self._walker.tap = self._inbox
        self._said_at: float | None = None
        self._said_after = 0  # messages that were there when we spoke
        self._left = False
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self.ended = False
        self.status: int | None = None
        self.failure: str | None = None
        self.open_ms: float | None = None
        self.answer_ms: float | None = None
        self.close_code: int | None = None

    async def open(self, target: Target, *, early: bool, context: ssl.SSLContext | None) -> bool:
        """Connect and upgrade, with our message in the same segment if `early`; return whether it opened."""
        try:
            async with asyncio.timeout(self._manner.open_timeout_s):
                self._reader, self._writer = await asyncio.open_connection(
                    target.host, target.port, ssl=context, server_hostname=target.host if context else None
                )
                key = base64.b64encode(os.urandom(16)).decode()
                self._writer.write(target.request(key) + (self._words() if early else b""))
                reply = await read_reply(self._reader)
                if reply.status != HTTPStatus.SWITCHING_PROTOCOLS:
                    self.status = reply.status
                    return False
                reply.check(target, key)
        except (OSError, BadReplyError) as error:
            self.failure = _reason(error)
            return False
        self.open_ms = self._since(self._started)
        return True

    def say(self, *, leaving: bool = False) -> None:
        """Send our message; `leaving`: with our Close right behind it, in the same write."""
        words = self._words()
        if leaving:
            self._left = True
            words += close_frame(1000, mask=os.urandom(4))
        self._write(words)

    async def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Read until the server ends it, `until` says so, or the time is over."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (self.ended or until()):
            try:
                async with asyncio.timeout_at(deadline):
                    await self._read()
            except TimeoutError:
                return

    async def miss(self, seconds: float) -> None:
        """Lose whatever comes in this time, as a client does whose WebSocket code starts late."""
        assert self._reader is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._reader.read(_CHUNK_BYTES):
                    pass

    async def leave(self) -> None:
        """Close as a polite client does, wait a little for the server's Close, and be gone."""
        # RFC 6455 5.5.1: "If an endpoint receives a Close frame and did not previously send a Close frame,
        # the endpoint MUST send a Close frame in response"
        if not self._left and self.close_code != _LOST:
            self._left = True
            self._write(close_frame(1000, mask=os.urandom(4)))
        await self.listen(_CLOSE_S)
        self.drop()

    def drop(self) -> None:
        """End the TCP connection at once."""
        if self._writer is not None:
            self._writer.transport.abort()

    @property
    def messages(self) -> list[bytes]:
        """The whole messages that came; long ones are cut, but never as short as ours."""
        return self._inbox.messages

    def observed(self) -> Observation:
        """Return what this connection saw."""
        return Observation(
            reached=self._writer is not None,
            status=self.status,
            failure=self.failure,
            open_ms=self.open_ms,
            answer_ms=self.answer_ms,
            messages=len(self._inbox.messages),
            close_code=self.close_code,
        )

    def _words(self) -> bytes:
        self._said_at = time.perf_counter()
        self._said_after = len(self._inbox.messages)
        return frame(TEXT, self._manner.message, mask=os.urandom(4))

    async def _read(self) -> None:
        """Take one chunk in: messages, pings to answer, a Close, or the end."""
        assert self._reader is not None
        try:
            chunk = await self._reader.read(_CHUNK_BYTES)
        except OSError:
            chunk = b""
        if not chunk:
            self.ended, self.close_code = True, _LOST
            return
        seen = len(self._inbox.messages)
        self._walker.feed(chunk)
        self._look_for_answer(seen)
        for notice in self._walker.notices:
            if notice.opcode == PING:
                self._write(frame(PONG, notice.payload, mask=os.urandom(4)))
            elif notice.opcode == CLOSE and not self.ended:
                self.ended, self.close_code = True, parse_close(notice.payload)[0]
        self._walker.notices.clear()

    def _look_for_answer(self, seen: int) -> None:
        if self._said_at is None or self.answer_ms is not None:
            return
        if self._manner.expect is Expect.ECHO:
            answered = self._manner.message in self._inbox.messages[max(seen, self._said_after) :]
        else:
            answered = len(self._inbox.messages) > max(self._manner.unasked, self._said_after)
        if answered:
            self.answer_ms = self._since(self._said_at)

    def _write(self, data: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    @staticmethod
    def _since(moment: float) -> float:
        return (time.perf_counter() - moment) * 1000


async def converse(
    target: Target, case: Case, manner: Manner, context: ssl.SSLContext | None = None
) -> Observation:
    """Make one connection as `case` says; never raises for anything that the peer does."""
    connection = Connection(manner)
    try:
        if await connection.open(target, early=case.early, context=context):
            await _talk(connection, case, manner)
            await connection.leave()
    finally:
        connection.drop()
    return connection.observed()


async def _talk(connection: Connection, case: Case, manner: Manner) -> None:
    if case.silent:
        await connection.listen(manner.answer_timeout_s)
        return
    if case.delay_s:
        await connection.listen(case.delay_s)
    if not case.early:
        connection.say(leaving=case.leaves)
    if manner.expect is not Expect.NONE or case.leaves:
        answered = (lambda: False) if case.leaves else (lambda: connection.answer_ms is not None)
        await connection.listen(manner.answer_timeout_s, answered)


def _reason(error: OSError | BadReplyError) -> str:
    """Say in a few words, always the same for the same cause, why a connection did not open."""
    match error:
        case TimeoutError():
            return "timeout"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
        case OSError():
            return (error.strerror or str(error)).lower()
        case _:
            return str(error)
