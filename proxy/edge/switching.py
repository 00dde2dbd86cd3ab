"""The two upgrade heads: what a client offered and what the upstream is asked, and the 101s that answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from proxy.edge.dial import accept_value
from proxy.edge.headers import Pair, end_to_end, serialize

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.edge.dial import Response

_HOP: Final[list[Pair]] = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
_NEGOTIATED: Final = frozenset({b"sec-websocket-protocol", b"sec-websocket-extensions"})


@dataclass(frozen=True, slots=True)
class Offer:
    """A client's upgrade request as the upstream is to hear it.

    `target` is the request target (rewritten, if the route says so), `headers` its end-to-end fields with the
    forwarding ones added, `key` the `Sec-WebSocket-Key`, `subprotocols` what it offers, in order.
    """

    target: bytes
    key: bytes
    headers: tuple[Pair, ...]
    subprotocols: tuple[str, ...]

    def agreed(self, subprotocol: str | None) -> Offer:
        """Return the offer once the client has its 101 from us: exactly what was agreed, no extensions."""
        headers = [pair for pair in self.headers if pair[0].lower() not in _NEGOTIATED]
        if subprotocol is not None:
            headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        return replace(self, headers=tuple(headers))

    def fields(self, replaced: Collection[bytes], traced: list[Pair]) -> list[Pair]:
        """Return the header fields for a try, with `traced` in place of the client's own trace context."""
        if not traced:
            return list(self.headers)
        return [pair for pair in self.headers if pair[0].lower() not in replaced] + traced


def mirrored_response(response: Response) -> bytes:
    """Return the upstream's 101 for the client: every end-to-end field as it came."""
    start = f"HTTP/1.1 101 {response.reason}".encode("utf-8", "surrogateescape")
    return serialize(start, [*end_to_end(response.headers), *_HOP])


def eager_response(offer: Offer, subprotocol: str | None) -> bytes:
    """Return our own 101, before the upstream has been asked: no extensions (RFC 6455 4.2.2)."""
    fields = [*_HOP, (b"Sec-WebSocket-Accept", accept_value(offer.key))]
    if subprotocol is not None:
        fields.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    return serialize(b"HTTP/1.1 101 Switching Protocols", fields)
