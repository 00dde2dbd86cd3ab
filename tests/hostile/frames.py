"""What a hostile client says in WebSocket frames. Used by the tests and by the siege."""

from __future__ import annotations

import zlib

from proxy.core.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame

MASK = b"\x01\x02\x03\x04"
FIN, RSV1, MASKED = 0x80, 0x40, 0x80
# Ten megabytes in ten kilobytes (RFC 7692): whoever inflates it has them.
_deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = (_deflate.compress(bytes(10_000_000)) + _deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def said(first: int, payload: bytes) -> bytes:
    """A masked frame with this first byte; the payload is masked, too."""
    whole = bytearray(frame(BINARY, payload, mask=MASK))
    whole[0] = first
    return bytes(whole)


def headed(first: int, length: int, *, masked: bool = True) -> bytes:
    """The header of a frame of this length, in 64 bits, whatever it is."""
    return bytes([first, MASKED * masked | 127]) + length.to_bytes(8, "big") + MASK * masked


# The endpoints judge these: they pass as they came.
PASSED = {
    "no mask": frame(TEXT, b"hello"),
    "a reserved opcode": said(FIN | 0x3, b"hello"),
    "a reserved control opcode": said(FIN | 0xB, b"hello"),
    "reserved bits": said(FIN | 0x70 | TEXT, b"hello"),
    "a continuation of nothing": said(FIN | CONTINUATION, b"hello"),
    "a message inside another": said(TEXT, b"hel") + said(FIN | TEXT, b"lo"),
    "a ping in two": said(PING, b"hel") + said(FIN | CONTINUATION, b"lo"),
    "a ping of 126 bytes": said(FIN | PING, bytes(126)),
    "a ping of 64 KiB": said(FIN | PING, bytes(65536))[:1000],
    "a pong that nobody asked for": said(FIN | 0xA, b"12345678"),
    "a length in more bytes than it needs": bytes([FIN | TEXT, MASKED | 126, 0, 5]) + MASK + b"hello",
    "a length in 64 bits that needs 7": headed(FIN | TEXT, 5) + b"hello",
    "a ping of 2^63 bytes": headed(FIN | PING, 1 << 63) + b"hello",
    "endless empty fragments": said(BINARY, b"hello") + said(CONTINUATION, b"") * 500,
    "text that is no UTF-8": said(FIN | TEXT, b"\xff\xfe\xfd"),
}
# So do these, where there is no `limits.message_bytes`; where there is, it is their end.
TOO_LONG = {
    "2^63 bytes": headed(FIN | BINARY, 1 << 63) + b"hello",
    "2^64 - 1 bytes": headed(FIN | BINARY, (1 << 64) - 1) + b"hello",
    "2^63 - 1 bytes": headed(FIN | BINARY, (1 << 63) - 1) + b"hello",
    "2^63 bytes without a mask": headed(FIN | BINARY, 1 << 63, masked=False) + b"hello",
    "a compression bomb": said(FIN | RSV1 | BINARY, BOMB),
    "endless fragments": said(BINARY, b"") + said(CONTINUATION, bytes(100)) * 200,
}
CLOSES = {
    "of one byte": said(FIN | CLOSE, b"\x03"),
    "with a code that nobody may send": said(FIN | CLOSE, b"\x03\xed"),
    "with a reason that is no UTF-8": said(FIN | CLOSE, b"\x03\xe8\xff\xfe"),
    "of 200 bytes": said(FIN | CLOSE, b"\x03\xe8" + b"x" * 198),
    "with more behind it": said(FIN | CLOSE, b"\x03\xe8") + said(FIN | TEXT, b"late"),
    "without a mask": frame(CLOSE, b"\x03\xe8"),
    "in two": said(CLOSE, b"\x03\xe8"),
}
