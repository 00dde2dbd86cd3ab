"""A backend that falls over in the ways of cold and restarting services, on purpose and reproducibly.

Plain asyncio, no WebSocket library, so that each fault is exactly the bytes that we mean. Paths:

- `/echo`: answers every data frame with itself, pings with pongs, Close with Close.
- `/cold?id=ID&refuse=K&status=S`: the first K upgrades of one ID get the HTTP status S, then it echoes.
- `/dropped?id=ID`: echoes, but a share of the sockets is ended within 20 ms of the 101, half of those with
  Close 1011, half with a TCP reset. Which and when depends on the seed, the ID and the number of the try.
- `/stats`: JSON of what was done.
- anything else: 404, or plain 200 for `/`.

`python -m tests.backends.flaky PORT [--after SECONDS] [--seed N] [--share 0.25]`; before `--after` nothing
listens.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import random
import socket
import struct
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DROP_WITHIN_S = 0.020
MARGIN_S = 0.001
REASONS = {
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def accept_key(key: str) -> str:
    """Return `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Backend:
    """What all connections share: the seed and the tries counted per client id."""

    def __init__(self, seed: int, share: float) -> None:
        self.seed, self.share = seed, share
        self.tries: Counter[str] = Counter()
        self.stats: Counter[str] = Counter()

    def dice(self, identity: str, attempt: int) -> random.Random:
        return random.Random(f"{self.seed}/{identity}/{attempt}")


class Connection(asyncio.Protocol):
    """One client: HTTP until the upgrade, WebSocket frames after it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.buffer = bytearray()
        self.open = self.closing = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.open and b"\r\n\r\n" in self.buffer:
            self._request()
        if self.open:
            self._frames()

    def _request(self) -> None:
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        url = urlsplit(first.split(" ")[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        key = fields.get("sec-websocket-key")
        if key is None:
            self._plain(url.path)
        elif url.path == "/cold":
            self._cold(key, query)
        elif url.path == "/dropped":
            self._dropped(key, query)
        else:
            self._upgrade(key)

    def _answer(self, status: int, reason: str, body: bytes, *extra: str) -> None:
        lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}", "Connection: close", *extra]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()

    def _plain(self, path: str) -> None:
        if path == "/stats":
            self._answer(200, "OK", json.dumps(self.backend.stats).encode(), "Content-Type: application/json")
        elif path == "/":
            self._answer(200, "OK", b"up")
        else:
            self._answer(404, "Not Found", b"nothing here")

    def _upgrade(self, key: str) -> None:
        self.backend.stats["upgraded"] += 1
        self.open = True
        accept = accept_key(key)
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode()
        )

    def _cold(self, key: str, query: dict[str, str]) -> None:
        identity = query["id"]
        self.backend.tries[identity] += 1
        if self.backend.tries[identity] > int(query.get("refuse", "2")):
            self._upgrade(key)
            return
        status = int(query.get("status", "500"))
        self.backend.stats[f"refused {status}"] += 1
        self._answer(status, REASONS[status], b"still starting")

    def _dropped(self, key: str, query: dict[str, str]) -> None:
        identity = query["id"]
        self.backend.tries[identity] += 1
        dice = self.backend.dice(identity, self.backend.tries[identity])
        self._upgrade(key)
        if dice.random() >= self.backend.share:
            return
        after_s = dice.uniform(0, DROP_WITHIN_S - MARGIN_S)
        end = self._close_1011 if dice.random() < 0.5 else self._reset
        loop = asyncio.get_running_loop()
        loop.call_later(after_s, self._drop, end, loop.time() + DROP_WITHIN_S)

    def _drop(self, end, latest: float) -> None:
        """End the socket, unless this machine was so busy that the 20 ms are over: then it is spared."""
        if self.transport.is_closing():
            return
        if asyncio.get_running_loop().time() > latest:
            self.backend.stats["spared"] += 1
            return
        self.closing = True
        end()

    def _close_1011(self) -> None:
        self.backend.stats["dropped 1011"] += 1
        self.transport.write(b"\x88\x02" + struct.pack("!H", 1011))
        self.transport.close()

    def _reset(self) -> None:
        self.backend.stats["dropped reset"] += 1
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _frames(self) -> None:
        while not self.closing and (frame := take_frame(self.buffer)):
            first, payload = frame
            opcode = first & 0x0F
            if opcode == 0x8:
                self.closing = True
                self.transport.write(encode(0x88, payload[:2]))
                self.transport.close()
            elif opcode == 0x9:
                self.transport.write(encode(0x8A, payload))
            elif opcode != 0xA:
                self.backend.stats["frames"] += 1
                self.transport.write(encode(first, payload))


def take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take the first whole frame off the buffer: first byte, unmasked payload (RFC 6455 section 5.2)."""
    if len(buffer) < 2:
        return None
    masked, length, at = buffer[1] & 0x80, buffer[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(buffer) < 2 + size:
            return None
        length, at = int.from_bytes(buffer[2 : 2 + size], "big"), 2 + size
    start = at + (4 if masked else 0)
    if len(buffer) < start + length:
        return None
    payload = bytes(buffer[start : start + length])
    if masked:
        payload = mask(payload, bytes(buffer[at : at + 4]))
    first = buffer[0]
    del buffer[: start + length]
    return first, payload


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3)."""
    count = len(payload)
    pad = (key * (count // 4 + 1))[:count]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(count, "big")


def encode(first: int, payload: bytes, key: bytes = b"") -> bytes:
    """Encode one frame; `first` is FIN, RSV and opcode; with a `key` of four bytes it is masked."""
    count, bit = len(payload), 0x80 if key else 0
    if count < 126:
        head = bytes((first, bit | count))
    elif count < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, count)
    else:
        head = struct.pack("!BBQ", first, bit | 127, count)
    return head + key + (mask(payload, key) if key else payload)


async def main() -> None:
    parser = argparse.ArgumentParser(description="a backend that falls over on purpose")
    parser.add_argument("port", type=int)
    parser.add_argument("--after", type=float, default=0.0, metavar="SECONDS", help="listen only then")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.25, help="of the sockets that /dropped ends")
    options = parser.parse_args()
    backend = Backend(options.seed, options.share)
    await asyncio.sleep(options.after)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(backend), "127.0.0.1", options.port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
