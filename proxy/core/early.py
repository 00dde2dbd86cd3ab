"""Early bytes: what a leg says before the gate is open, held in order and never looked at again."""

from __future__ import annotations


class EarlyTotal:
    """How many early bytes several buffers hold together, now. They keep it up to date."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class EarlyBuffer:
    """Chunks of one leg, in order, up to a high watermark.

    `push` a chunk; when it returns True the watermark is reached, and the caller stops reading that socket,
    so that TCP pushes back: nothing is dropped. `take` empties the buffer when the gate opens. `size` is what
    is held now, `total` what ever was; both in bytes. `together`: what this and other buffers hold. A buffer
    that nobody wants any more must be emptied, or it counts there for ever.
    """

    __slots__ = ("_chunks", "_together", "_whole", "high_bytes", "size", "total")

    def __init__(self, high_bytes: int, together: EarlyTotal | None = None) -> None:
        self.high_bytes = high_bytes
        self.size = self.total = 0
        self._together = together or EarlyTotal()
        self._chunks: list[bytes] = []
        self._whole = 0

    @property
    def full(self) -> bool:
        """Whether the watermark is reached."""
        return self.size >= self.high_bytes

    def push(self, chunk: bytes, *, torso: int) -> bool:
        """Hold `chunk`. Return whether the watermark is reached.

        `torso`: how many of the bytes held from now on belong to a frame that is not whole yet.
        """
        if chunk:
            self._chunks.append(chunk)
            self.size += len(chunk)
            self.total += len(chunk)
            self._together.bytes += len(chunk)
        self._whole = self.size - torso
        return self.full

    def take(self) -> bytes:
        """Return everything held, and forget it."""
        held = b"".join(self._chunks)
        self.clear()
        return held

    def take_whole(self) -> bytes:
        """Return the whole frames held, and forget all: its sender is gone, the last frame stays a torso."""
        whole = self._whole
        return self.take()[:whole]

    def clear(self) -> None:
        """Forget everything held."""
        self._chunks.clear()
        self._together.bytes -= self.size
        self.size = self._whole = 0
