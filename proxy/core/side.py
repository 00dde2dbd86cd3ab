"""What a handshake keeps of one leg: its state, its frames, what it said too early, its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.core.early import EarlyBuffer
from proxy.core.frames import CLOSE, FrameWalker, parse_close
from proxy.core.report import EarlyCount

if TYPE_CHECKING:
    from proxy.core.early import EarlyTotal
    from proxy.core.leg import Leg
    from proxy.core.stages import Stages


class Side:
    """One leg of a handshake, for one try. `close`: the peer's own Close; `gone`: its connection is over."""

    __slots__ = ("close", "early", "gone", "leg", "stages", "walker")

    def __init__(
        self,
        leg: Leg,
        early_bytes: int,
        message_bytes: int | None = None,
        together: EarlyTotal | None = None,
    ) -> None:
        self.leg = leg
        self.early = EarlyBuffer(early_bytes, together)
        self.walker = FrameWalker()
        self.walker.message_bytes = message_bytes
        self.stages: Stages | None = None
        self.close: tuple[int, str] | None = None
        self.gone = False

    @property
    def left(self) -> bool:
        """Whether the peer has said goodbye or is gone without."""
        return self.gone or self.close is not None

    def hold(self, data: bytes, at_ms: float) -> bool:
        """Walk and hold what the peer said; learn what it proves. Return whether the watermark is reached."""
        before = self.walker.settled
        full = self.early.push(self.walker.feed(data), torso=self.walker.torso)
        frames = self.walker.settled - before
        for notice in self.walker.notices:
            if notice.own and self.stages:
                frames -= 1  # evidence of its own kind
                self.stages.note_pong(at_ms)
            elif notice.opcode == CLOSE and self.close is None:
                self.close = parse_close(notice.payload)
        self.walker.notices.clear()
        if self.stages and data:
            self.stages.acked = True  # any byte that the peer sends after our 101 shows that it got there
            self.stages.frame = self.stages.frame or frames > 0
            self.stages.deaf = full
        return full

    def abort(self, at_ms: float) -> None:
        """End its stages where they are."""
        if self.stages:
            self.stages.abort(at_ms)

    def count(self) -> EarlyCount:
        """Return what it has said so far."""
        return EarlyCount(self.walker.messages, self.early.total)
