"""Where the frames of one direction begin and end, told from their headers alone (RFC 6455 section 5.2).

The relay's own, so that what is cut inside a frame is not decided by the code under test.
"""

from __future__ import annotations

HEAD_END = b"\r\n\r\n"


class Boundary:
    """Follows one direction of a connection: an HTTP head, then frames. `feed` each chunk as it comes.

    `first` is the first line of the head.
    """

    def __init__(self) -> None:
        self.first = ""
        self._head = bytearray()
        self._upgraded = False
        self._partial = b""  # of a frame's header
        self._left = 0  # of a frame's payload

    def feed(self, data: bytes) -> list[tuple[int, int, int]]:
        """Walk a chunk; return (offset, length, first byte) of each frame that begins in it.

        A frame is told of once its header is whole; its offset is negative if it began in an earlier chunk.
        """
        at = 0 if self._upgraded else self._past_head(data)
        begun = []
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            had = len(self._partial)
            header = self._partial + data[at : at + 14 - had]
            size = _sizes(header)
            if size is None:
                self._partial = header
                break
            head, payload = size
            self._partial, self._left = b"", payload
            begun.append((at - had, head + payload, header[0]))
            at += head - had
        return begun

    def _past_head(self, data: bytes) -> int:
        """Collect the HTTP head; return where in `data` it is over."""
        before = len(self._head)
        self._head += data
        end = self._head.find(HEAD_END)
        if end < 0:
            return len(data)
        self.first = self._head.partition(b"\r\n")[0].decode("latin-1")
        self._head.clear()
        self._upgraded = True
        return end + len(HEAD_END) - before


def _sizes(header: bytes) -> tuple[int, int] | None:
    """Return the lengths of a frame's header and payload; None while the header is not whole."""
    if len(header) < 2:
        return None
    length = header[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    head = 2 + extended + (4 if header[1] & 0x80 else 0)
    if len(header) < head:
        return None
    return head, int.from_bytes(header[2 : 2 + extended], "big") if extended else length
