"""The asyncio protocols of a session's legs: one while the gate is closed, one when it is open.

`Held` hands everything to the session. `Relay` is the hot path: a chunk is walked and written to the other
leg, and the time is noted. It touches no log and no span; whatever is rare goes to the session.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from proxy.core.frames import PING, frame
from proxy.core.plan import Role
from proxy.edge.ends import last_words
from proxy.edge.shared import mask_key, nonce
from proxy.edge.splicing import LONG_CHUNK, Spliced, spliceable

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.frames import FrameWalker


class HeldOwner(Protocol):
    """Whoever keeps a leg while its gate is closed."""

    def leg_said(self, leg: Held, data: bytes) -> None:
        """Take bytes of this leg."""

    def leg_lost(self, leg: Held, exc: Exception | None) -> None:
        """Note that this leg has said its last (EOF, or lost); called once."""

    def leg_gone(self, leg: Held) -> None:
        """Note that this leg's transport is closed; called once, after `leg_lost`."""


class _Nobody:
    """Owns the legs that nobody cares for any more, or not yet."""

    def leg_said(self, leg: Held, data: bytes) -> None:
        """Too late."""

    def leg_lost(self, leg: Held, exc: Exception | None) -> None:
        """Known."""

    def leg_gone(self, leg: Held) -> None:
        """Known."""

    def control_passed(self, leg: Relay) -> None:
        """Too late."""

    def eof_passed(self, leg: Relay) -> bool:  # noqa: ARG002 - whichever it is
        """Known."""
        return False

    def relay_lost(self, leg: Relay, exc: Exception | None) -> None:
        """Known."""


NOBODY: Final = _Nobody()


class Held(asyncio.Protocol):
    """A leg while the gate is closed, or while its other side is gone."""

    __slots__ = ("_owner", "_told", "connected", "role", "transport", "writing_paused")

    def __init__(self, role: Role, owner: HeldOwner) -> None:
        self.role = role
        self._owner = owner
        self._told = False
        self.connected = True
        self.writing_paused = False
        self.transport: asyncio.Transport | None = None

    def hand_to(self, owner: HeldOwner) -> None:
        """Let somebody else take care of this leg from now on."""
        self._owner = owner

    def release(self) -> None:
        """Let go of the owner, who is done with this leg."""
        self._owner = NOBODY

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
        self._owner.leg_said(self, data)

    def eof_received(self) -> None:
        """End the leg: the transport closes itself after this, when its buffer is flushed."""
        self._tell(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the leg; what its peer said before it reset the connection still counts."""
        if exc is not None and not self._told and self.transport is not None:
            words = last_words(self.transport)
            if words:
                self._owner.leg_said(self, words)
        self.connected = False
        self._tell(exc)
        self._owner.leg_gone(self)

    def pause_writing(self) -> None:
        """Remember it: the relay starts with it."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """Forget it: the peer has caught up."""
        self.writing_paused = False

    def _tell(self, exc: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._owner.leg_lost(self, exc)


HANDED_ON: Final = Held(Role.CLIENT, NOBODY)  # in place of a leg that is held no more
HANDED_ON.connected = False


class RelayOwner(Protocol):
    """Whoever is told of the rare things of an open session."""

    def control_passed(self, leg: Relay) -> None:
        """Note the control frames in `leg.walker.notices`, and empty it."""

    def eof_passed(self, leg: Relay) -> bool:
        """Note that this leg said its last; return whether its transport stays open for writing."""

    def relay_lost(self, leg: Relay, exc: Exception | None) -> None:
        """Note that this leg's connection is over."""


class Hold:
    """Why a leg is not read: bits of a number."""

    SLOW_PEER: Final = 1  # the other leg does not take what this one says
    PACE: Final = 2  # it said more than it may in a second


class Relay(asyncio.Protocol):
    """A leg of an open session. `other` is its peer leg: what this one says is written there.

    `said_s`: when it last said something that passed, on the monotonic clock. `holds`: why it is not read.
    """

    __slots__ = ("_owner", "_splices", "_write", "holds", "other", "role", "said_s", "transport", "walker")

    def __init__(
        self, role: Role, transport: asyncio.Transport, walker: FrameWalker, owner: RelayOwner = NOBODY
    ) -> None:
        self.role = role
        self.transport = transport
        self.walker = walker
        self._owner = owner
        self.other: Relay | None = None
        self.holds = 0
        self.said_s = monotonic()
        self._write: Callable[[bytes], None] = _discard
        self._splices = False  # long messages may go by `Spliced`

    def join(self, other: Relay, *, writing_paused: bool) -> None:
        """Make `other` the leg to which this one's bytes go. `writing_paused`: its buffer is full already.

        Reading may have been paused before, because as much was held as may be.
        """
        self.other = other
        self._write = other.transport.write
        self._splices = True
        if writing_paused:
            self.hold(Hold.SLOW_PEER)
        else:
            self.let_go(Hold.SLOW_PEER)

    def mute(self) -> None:
        """Pass on nothing more of what this leg says; it is read, walked and counted still."""
        self._write = _discard
        self._splices = False

    def write_by(self, write: Callable[[bytes], None]) -> None:
        """Let `write` pass on what this leg says, unless it is muted."""
        if self._splices:
            self._write = write

    def hand_to(self, owner: RelayOwner) -> None:
        """Let somebody else take care of this leg from now on."""
        self._owner = owner

    def release(self) -> None:
        """Let go of everything: the connection is over, and circles would wait for the garbage collector."""
        self.other = None
        self.mute()
        self._owner = NOBODY

    def data_received(self, data: bytes) -> None:
        """Walk a chunk and pass it on. The hot path."""
        walker = self.walker
        out = walker.feed(data)
        if out:
            self._write(out)
            self.said_s = monotonic()
        if walker.notices:
            self._owner.control_passed(self)
        if len(data) >= LONG_CHUNK and self._splices:
            self._splice()

    def _splice(self) -> None:
        """Let the kernel move what is to come, if it can, and if nobody else stands before this relay."""
        if self.other is None or self.transport.get_protocol() is not self:
            return
        legs = (self.transport, self.other.transport)
        if any(leg.is_closing() for leg in legs):
            return
        self._splices = spliceable(*legs)
        if self._splices:
            Spliced(self, self.other.transport)

    def ping(self) -> bytes:
        """Ping this leg's peer; its pong is cut out of what it says. Return the payload that it will have."""
        payload = nonce()
        self.walker.expect_pong(payload)
        self.transport.write(frame(PING, payload, mask=mask_key() if self.role is Role.UPSTREAM else None))
        return payload

    def hold(self, why: int) -> None:
        """Stop reading this leg."""
        self.holds |= why
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def let_go(self, why: int) -> None:
        """Go on reading this leg, unless there is another reason not to."""
        self.holds &= ~why
        if not self.holds and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Stop reading the other leg: this one's peer is slow."""
        if self.other is not None:
            self.other.hold(Hold.SLOW_PEER)

    def resume_writing(self) -> None:
        """Go on reading the other leg."""
        if self.other is not None:
            self.other.let_go(Hold.SLOW_PEER)

    def eof_received(self) -> bool:
        """Pass on that this leg said its last."""
        return self._owner.eof_passed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the leg; what its peer said before it reset the connection still counts."""
        if exc is not None:
            words = last_words(self.transport)
            if words:
                self.data_received(words)
        self._owner.relay_lost(self, exc)


def _discard(_: bytes) -> None:
    """Stand in for a transport that takes no more."""
