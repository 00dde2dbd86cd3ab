"""An upstream whose client has left: it is read and not listened to until it is quiet, then it is told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.core.departure import Departure, Step
from proxy.core.frames import CLOSE, frame, parse_close
from proxy.edge.acked import all_acked
from proxy.edge.ends import end, reset
from proxy.edge.relay import Hold
from proxy.edge.shared import after_poll, mask_key, now_ms
from proxy.telemetry import DepartureFacts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.core.departure import DeparturePlan, LearnedQuiet
    from proxy.edge.relay import Relay

# RFC 6455 7.1.1: the server closes first; a client that has waited long enough may close at any time.
_CLOSING_S: Final = 5.0
# An ack that is all that is missing may be delayed by the peer's kernel; it is looked for so often.
_ACK_MS: Final = 5.0


class Departing:
    """Sees one upstream leg off. Implements `RelayOwner` for it; `done` is called when the leg is gone.

    `goodbye` is the payload of the Close that it gets in the end; None: an end without one, a reset if
    `abrupt`. The caller says when to `discard` what it says until then. `told`: it was told, or said
    a Close of its own, whose code is then in `upstream_code`.
    """

    __slots__ = (
        "_abrupt", "_client", "_departure", "_done", "_goodbye", "_loop", "_proof", "_said", "_timer",
        "_waited_ms",
        "leg", "told", "upstream_code",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        leg: Relay,
        plan: DeparturePlan,
        quiet: LearnedQuiet,
        goodbye: bytes | None,
        *,
        abrupt: bool = False,
        at_once: bool = False,
        answers: bool = False,
        client: Relay | None = None,
        asked: bool = False,
        done: Callable[[], None],
    ) -> None:
        """Begin. `client`: the leg that may still say something until its own end, which is delivered.

        Without one, `asked` says whether something of the client's has just been delivered.

        `at_once`: the upstream is told without waiting, because it is its own fault. `answers`: it is known
        to answer pings.
        """
        at_ms = now_ms()
        self._loop = loop
        self.leg = leg
        self._client = client
        self._goodbye = goodbye
        self._abrupt = abrupt
        self._done = done
        self._proof: bytes | None = None  # payload of the pong that we wait for; a keepalive's proves nothing
        self._said: tuple[int, int] | None = None
        self._waited_ms: float | None = None
        self.told = False
        self.upstream_code: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        waits = plan.enabled and not at_once
        times_ms = (quiet.quiet_ms, quiet.patience_ms, plan.longest_ms) if waits else (0.0, 0.0, 0.0)
        self._departure = Departure(*times_ms, at_ms, answers=answers)
        if asked:
            self._departure.asked(at_ms)
        if leg.holds:
            self._departure.heard(at_ms)  # we did not read it: its silence is ours
        leg.hand_to(self)

    def start(self) -> None:
        """Tell the upstream now if it has been quiet for long enough, otherwise when it has."""
        self._look()

    # -- RelayOwner -----------------------------------------------------------------------------------------

    def control_passed(self, leg: Relay) -> None:
        """Answer a Close of the upstream (RFC 6455 5.5.1), note our pong; the rest concerns nobody."""
        notices = leg.walker.notices[:]
        leg.walker.notices.clear()
        for notice in notices:
            if notice.opcode == CLOSE:
                self.upstream_closed(notice.payload)
            elif notice.own and notice.payload == self._proof and not self.told:
                self._departure.ponged(now_ms())
                self._look()

    def upstream_closed(self, payload: bytes) -> None:
        """Answer the upstream's Close, if it has none of ours yet, and close."""
        if self.upstream_code is None:
            self.upstream_code, _ = parse_close(payload)
            self._tell(payload)
            self._close()

    def eof_passed(self, leg: Relay) -> bool:  # noqa: ARG002 - there is only one
        """Close, too: the upstream has said its last."""
        self._tell(None)
        self._close()
        return False

    def relay_lost(self, leg: Relay, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is over
        """End: the upstream is gone."""
        self._stop_timer()
        self._note_told()
        self._done()

    # -- telling --------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Tell the upstream now, quiet or not: the gate itself has no more time."""
        if not self.told:
            self._say_goodbye()

    def abort(self) -> None:
        """End the connection at once; an upstream that was not told yet is told, as far as that goes."""
        self.hurry()
        self.leg.transport.abort()

    def discard(self) -> None:
        """Pass on nothing of what the upstream says from now on, but read and count it."""
        self.leg.mute()
        self.leg.let_go(Hold.SLOW_PEER)
        if self._said is None:
            self._said = self._count()

    def facts(self) -> DepartureFacts:
        """Return what was discarded, and for how long the upstream was not told."""
        said = self._count()
        messages, size = self._said or said
        waited_ms = self._departure.waited_ms(now_ms()) if self._waited_ms is None else self._waited_ms
        return DepartureFacts(said[0] - messages, said[1] - size, waited_ms)

    def _count(self) -> tuple[int, int]:
        return self.leg.walker.messages, self.leg.walker.payload_bytes

    def _look(self) -> None:
        at_ms = now_ms()
        self._departure.heard(at_ms if self.leg.holds else self.leg.said_s * 1000)
        if self._client is not None:
            self._departure.asked(self._client.said_s * 1000)
        if self.leg.transport.get_write_buffer_size():
            self._departure.asked(at_ms)  # what was said to it is still on its way
        # Inside a frame of the client's no ping may be put in; inside one of the upstream's no pong comes.
        free = self._whole and self.leg.walker.at_boundary
        step = self._departure.look(at_ms, taken=partial(all_acked, self.leg.transport), free=free)
        if step is Step.TELL:
            self._say_goodbye()
            return
        if step is Step.PING:
            self._proof = self.leg.ping()
        self._stop_timer()
        due_s = max(self._departure.due_ms - at_ms, _ACK_MS) / 1000
        self._timer = self._loop.call_later(due_s, after_poll, self._loop, self._due)

    def _due(self) -> None:
        if not self.told:
            self._look()

    def _say_goodbye(self) -> None:
        """Tell the upstream as the client did: by its Close, or by an end without one."""
        if self._tell(self._goodbye):
            self._stop_timer()
            self._timer = self._loop.call_later(_CLOSING_S, self.leg.transport.abort)
        elif self._abrupt:
            reset(self.leg.transport)
        else:
            self._close()

    def _tell(self, goodbye: bytes | None) -> bool:
        """Write a Close, if none was written yet and one may be; nothing of the client's comes behind it."""
        first = not self.told
        self._note_told()
        if self._client is not None:
            self._client.mute()
        transport = self.leg.transport
        if not first or goodbye is None or not self._whole or transport.is_closing():
            return False
        transport.write(frame(CLOSE, goodbye, mask=mask_key()))
        return True

    @property
    def _whole(self) -> bool:
        """Whether all that was delivered to the upstream ends with a frame."""
        return self._client is None or self._client.walker.at_boundary

    def _note_told(self) -> None:
        self.told = True
        if self._waited_ms is None:
            self._waited_ms = self._departure.waited_ms(now_ms())

    def _close(self) -> None:
        """Close the connection when what was written is flushed; an upstream that does not read is cut."""
        self._stop_timer()
        self._timer = end(self._loop, self.leg.transport, _CLOSING_S)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
