"""The server's answer to an upgrade request: what it says and whether it opens the WebSocket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from proxy.probe.target import accept_value

if TYPE_CHECKING:
    from proxy.probe.target import Target


class BadReplyError(Exception):
    """The peer does not speak the protocol; its text is short enough to count by."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and header fields, names in lower case; repeated fields joined by commas."""

    status: int
    fields: dict[str, str]

    def check(self, target: Target, key: str) -> None:
        """Raise BadReplyError unless this 101 is one that a client must accept (RFC 6455 4.1)."""
        tokens = {token.strip().lower() for token in self.fields.get("connection", "").split(",")}
        if self.fields.get("upgrade", "").lower() != "websocket" or "upgrade" not in tokens:
            raise BadReplyError("101 without Upgrade: websocket")
        if self.fields.get("sec-websocket-accept") != accept_value(key):
            raise BadReplyError("101 with a wrong Sec-WebSocket-Accept")
        chosen = self.fields.get("sec-websocket-protocol")
        if chosen is not None and chosen not in target.subprotocols:
            raise BadReplyError("101 with a subprotocol that was not offered")
        if "sec-websocket-extensions" in self.fields:
            raise BadReplyError("101 with an extension that was not offered")


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read header blocks up to the final one; informational answers other than 101 are skipped.

    Raises BadReplyError for what is not HTTP/1 or ends before it is whole.
    What comes behind the header stays in `reader`.
    """
    while True:
        try:
            block = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise BadReplyError(
                "closed in its answer" if error.partial else "closed without answer"
            ) from None
        except asyncio.LimitOverrunError:
            raise BadReplyError("answer too long") from None
        reply = _parse(block.decode("latin-1"))
        if reply.status >= HTTPStatus.OK or reply.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return reply


def _parse(block: str) -> Reply:
    status_line, *lines = block.rstrip("\r\n").split("\r\n")
    version, _, rest = status_line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise BadReplyError("answer is not HTTP")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = fields.get(name.lower())
        fields[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
    return Reply(int(rest[:3]), fields)
