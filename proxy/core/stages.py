"""The stages of one leg: which runs, what it waits for, what proved it, when it gives up.

`Stages` knows one leg of one try. The handshake tells it what it learned (`acked`, `frame`, `pong`, ...) and
calls `advance`; it moves the leg through the table and returns what is to be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.core.commands import PollAcked, SendPing
from proxy.core.leg import Trigger
from proxy.core.plan import Evidence, OnExpiry, Stage, StagePlan, WindowPlan
from proxy.core.report import StageOutcome, StageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.announcement import Announcement
    from proxy.core.commands import Command
    from proxy.core.leg import Leg
    from proxy.core.plan import LegPlan

_SKIPPED: Final = StagePlan(Evidence.FIXED, 0.0)
_FIRST_POLL_MS: Final = 1.0
_POLL_GROWTH: Final = 2.0


class Stages:
    """The run of one leg through its stages, from its 101 until READY.

    What was learned is kept in flags, so that a stage whose evidence came early ends as soon as it begins.
    `ticked` is set when a timer has fired, which it does only after the sockets were read: not having looked
    proves no quiet, not even for a window of no width.
    `deaf`: as much of this leg is held as may be, so nothing more is read of it and nothing can prove it.
    `validated_ms` is when validation was over (None before); losses are dated from it.
    """

    __slots__ = (
        "_begun_ms", "_leg", "_marks", "_nonce", "_plan", "_poll_ms", "_polled_ms", "_running", "_window",
        "acked", "announcement", "attempt", "deaf", "due_ms", "failed", "frame", "measurable", "pinged",
        "pong", "records", "ticked", "validated_ms",
    )  # fmt: skip

    def __init__(
        self,
        leg: Leg,
        plan: LegPlan,
        window: LearnedWindow,
        announcement: Announcement | None,
        *,
        attempt: int,
        measurable: bool,
        nonce: bytes,
        at_ms: float = 0.0,
    ) -> None:
        self._leg = leg
        self._plan = plan
        self._window = window
        self._nonce = nonce
        self._marks: list[tuple[str, float]] = []
        self._begun_ms = self._polled_ms = at_ms
        self._poll_ms = _FIRST_POLL_MS
        self._running = _SKIPPED
        self.announcement = announcement
        self.attempt = attempt
        self.measurable = measurable
        self.acked = self.frame = self.pinged = self.pong = self.failed = self.ticked = self.deaf = False
        self.validated_ms: float | None = None
        self.due_ms: float | None = None
        self.records: list[StageRecord] = []

    def begin(self, at_ms: float) -> Iterator[Command]:
        """Start with the first stage: the leg has just had its 101."""
        yield from self._enter(at_ms)
        yield from self.advance(at_ms)

    def note_pong(self, at_ms: float) -> None:
        """Note that our ping was answered, in whichever stage."""
        self.pong = True
        self._marks.append(("pong", at_ms))

    def advance(self, at_ms: float) -> Iterator[Command]:
        """End every stage that has its evidence or has run out of budget; begin the next."""
        while (stage := self._leg.stage) is not None and not self.failed:
            verdict = self._verdict(stage, at_ms)
            if verdict is None:
                if stage is Stage.PROPAGATION:
                    yield from self._poll(at_ms)
                return
            evidence, outcome = verdict
            self._record(stage, evidence, outcome, at_ms)
            if outcome is StageOutcome.EXPIRED and self._running.on_expiry is OnExpiry.FAIL:
                self.failed = True
                return
            self._leg.move(Trigger.PASS)
            yield from self._enter(at_ms)

    def abort(self, at_ms: float) -> None:
        """Record the running stage as failed, once: its leg closed or was lost."""
        if (stage := self._leg.stage) is not None and not self.failed:
            self._record(stage, self._running.evidence, StageOutcome.FAILED, at_ms)
            self.failed = True
        self.due_ms = None

    def _plan_of(self, stage: Stage, at_ms: float) -> StagePlan:
        """Return the plan of a stage that begins now."""
        if stage is Stage.PROPAGATION:
            return self._plan.propagation
        if stage is Stage.VALIDATION:
            return self._plan.validation
        if stage is Stage.ANNOUNCEMENT:
            return self._plan.announcement or _SKIPPED
        if isinstance(self._plan.stabilization, WindowPlan):
            return StagePlan(Evidence.QUIET, self._window.width_ms(at_ms))
        return self._plan.stabilization

    def _enter(self, at_ms: float) -> Iterator[Command]:
        """Start the clock of the stage that the leg has just come to."""
        stage = self._leg.stage
        self._begun_ms, self.due_ms, self.ticked = at_ms, None, False
        if stage is None:
            return
        if stage is Stage.STABILIZATION:
            self.validated_ms = at_ms
        plan = self._running = self._plan_of(stage, at_ms)
        self.due_ms = at_ms + plan.budget_ms
        if stage is Stage.PROPAGATION and plan.evidence is Evidence.ACKED and plan.budget_ms:
            self._polled_ms = at_ms
        if stage is Stage.VALIDATION and plan.evidence is Evidence.PONG and plan.budget_ms and not self.frame:
            self.pinged = True
            self._marks.append(("ping", at_ms))
            yield SendPing(self._leg.role, self._nonce)

    def _poll(self, at_ms: float) -> Iterator[Command]:
        """Poll for acks now and then, with growing steps, within the budget."""
        if self._plan.propagation.evidence is Evidence.ACKED and at_ms >= self._polled_ms:
            self._polled_ms = at_ms + self._poll_ms
            self._poll_ms *= _POLL_GROWTH
            yield PollAcked(self._leg.role)
        if self._plan.propagation.evidence is Evidence.ACKED:
            self.due_ms = min(self._begun_ms + self._plan.propagation.budget_ms, self._polled_ms)

    def _verdict(self, stage: Stage, at_ms: float) -> tuple[Evidence, StageOutcome] | None:
        """Judge the running stage. None: it goes on."""
        plan = self._running
        if self._skips(stage, plan):
            return plan.evidence, StageOutcome.SKIPPED
        if plan.evidence is Evidence.QUIET and not (self.ticked and at_ms >= self._begun_ms + plan.budget_ms):
            return None
        if plan.evidence is not Evidence.FIXED and (proof := self._proof(stage)) is not None:
            return proof, StageOutcome.PROVED
        if at_ms >= self._begun_ms + plan.budget_ms:
            return plan.evidence, StageOutcome.EXPIRED
        return None

    def _skips(self, stage: Stage, plan: StagePlan) -> bool:
        if stage is Stage.STABILIZATION and isinstance(self._plan.stabilization, WindowPlan):
            return self._plan.stabilization.max_ms <= 0
        # Where nothing can come that proves a stage, waiting for it would be a fixed sleep.
        if self.deaf and stage in {Stage.VALIDATION, Stage.ANNOUNCEMENT} and self._proof(stage) is None:
            return plan.evidence is not Evidence.FIXED
        blind = stage is Stage.PROPAGATION and plan.evidence is Evidence.ACKED and not self.measurable
        return plan.budget_ms <= 0 or (blind and not self.acked and not self.frame)

    def _proof(self, stage: Stage) -> Evidence | None:
        if stage is Stage.PROPAGATION:
            return Evidence.FRAME if self.frame else Evidence.ACKED if self.acked else None
        if stage is Stage.VALIDATION:
            return Evidence.FRAME if self.frame else Evidence.PONG if self.pong else None
        if stage is Stage.STABILIZATION:
            self._window.survived()
            return Evidence.QUIET
        return Evidence.MESSAGE if self.announcement is not None and self.announcement.heard else None

    def _record(self, stage: Stage, evidence: Evidence, outcome: StageOutcome, at_ms: float) -> None:
        if stage is Stage.ANNOUNCEMENT and self._plan.announcement is None:
            return  # not part of this leg
        marks: tuple[tuple[str, float], ...] = ()
        if stage is Stage.VALIDATION:
            marks, self._marks = tuple(self._marks), []
        self.records.append(
            StageRecord(
                role=self._leg.role,
                stage=stage,
                attempt=self.attempt,
                outcome=outcome,
                evidence=evidence,
                budget_ms=self._running.budget_ms,
                started_ms=self._begun_ms,
                ended_ms=at_ms,
                marks=marks,
            )
        )
