"""Every row of the stage table: each evidence, what it ends, what it costs, and what happens without it."""

from __future__ import annotations

import pytest

from proxy.core.adaptive import TRUST, LearnedWindow
from proxy.core.announcement import Announcement
from proxy.core.commands import PollAcked, SendPing
from proxy.core.leg import Leg, State, Trigger
from proxy.core.plan import Evidence, OnExpiry, Role, Stage, StagePlan, WindowPlan
from proxy.core.report import StageOutcome
from proxy.core.stages import Stages
from tests.core.script import AT_ONCE, CLIENT, NONCE, SKIP, leg_plan

PROVED, EXPIRED = StageOutcome.PROVED, StageOutcome.EXPIRED
FAILED, SKIPPED = StageOutcome.FAILED, StageOutcome.SKIPPED
PING, POLL = SendPing(CLIENT, NONCE), PollAcked(CLIENT)

ONLY = {
    Stage.PROPAGATION: {"validation": SKIP, "stabilization": AT_ONCE},
    Stage.VALIDATION: {"propagation": SKIP, "stabilization": AT_ONCE},
    Stage.STABILIZATION: {"propagation": SKIP, "validation": SKIP},
    Stage.ANNOUNCEMENT: {"propagation": SKIP, "validation": SKIP, "stabilization": AT_ONCE},
}


class Run:
    """The stages of one leg: `at` says what was learned and moves on; it returns the commands that came."""

    def __init__(self, *, window=None, measurable=True, **plan):
        self.leg = Leg(Role.CLIENT)
        self.plan = leg_plan(**plan)
        self.leg.move(Trigger.ACCEPTED)
        wide = self.plan.stabilization if isinstance(self.plan.stabilization, WindowPlan) else AT_ONCE
        self.window = window or LearnedWindow(wide)
        announcement = Announcement(None) if self.plan.announcement else None
        self.stages = Stages(
            self.leg, self.plan, self.window, announcement, attempt=1, measurable=measurable, nonce=NONCE
        )

    def begin(self, at_ms=0.0, **learned):
        for name, value in learned.items():
            setattr(self.stages, name, value)
        return list(self.stages.begin(at_ms))

    def at(self, at_ms, **learned):
        if not learned:  # then it is the timer that fired
            self.stages.ticked = True
        for name, value in learned.items():
            if name == "pong":
                self.stages.note_pong(at_ms)
            elif name == "heard":
                self.stages.announcement.heard = value
            else:
                setattr(self.stages, name, value)
        return list(self.stages.advance(at_ms))

    @property
    def state(self):
        return self.leg.state

    @property
    def due_ms(self):
        return self.stages.due_ms

    def records(self):
        return [(r.stage, r.evidence, r.outcome, r.ended_ms - r.started_ms) for r in self.stages.records]

    def record(self, stage):
        (found,) = [r for r in self.stages.records if r.stage is stage]
        return found.evidence, found.outcome, found.ended_ms - found.started_ms


def only(stage, **changes):
    """A run in which `stage` alone is not skipped."""
    return Run(**{**ONLY[stage], **changes})


# -- propagation --------------------------------------------------------------------------------------------


def test_propagation_is_proved_when_all_was_acked():
    run = only(Stage.PROPAGATION)
    assert run.begin() == [POLL]
    run.at(0.4, acked=True)
    assert run.state is State.READY
    assert run.record(Stage.PROPAGATION) == (Evidence.ACKED, PROVED, 0.4)


def test_propagation_is_proved_by_what_the_peer_says():
    run = only(Stage.PROPAGATION)
    run.begin()
    run.at(0.4, frame=True)
    assert run.record(Stage.PROPAGATION) == (Evidence.FRAME, PROVED, 0.4)


def test_propagation_polls_with_growing_steps_within_its_budget():
    run = only(Stage.PROPAGATION)
    polls, at_ms = [], 0.0
    commands = run.begin()
    while run.state is State.PROPAGATION:
        polls += [at_ms] * commands.count(POLL)
        assert run.due_ms > at_ms, "a timer in the past would spin"
        at_ms = run.due_ms
        commands = run.at(at_ms)
    assert polls == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert at_ms == 50.0


def test_propagation_does_not_poll_before_its_next_step():
    run = only(Stage.PROPAGATION)
    run.begin()
    assert run.at(0.5) == []
    assert run.due_ms == 1.0


def test_propagation_that_expires_proceeds_unproven():
    run = only(Stage.PROPAGATION)
    run.begin()
    run.at(49.9)
    assert run.state is State.PROPAGATION
    run.at(50.0)
    assert run.state is State.READY
    assert run.record(Stage.PROPAGATION) == (Evidence.ACKED, EXPIRED, 50.0)


def test_where_acks_cannot_be_measured_propagation_is_skipped_not_slept_through():
    run = only(Stage.PROPAGATION, measurable=False)
    assert run.begin() == []
    assert run.state is State.READY
    assert run.record(Stage.PROPAGATION) == (Evidence.ACKED, SKIPPED, 0.0)


def test_where_acks_cannot_be_measured_what_is_known_anyway_still_proves():
    run = only(Stage.PROPAGATION, measurable=False)
    run.begin(acked=True)
    assert run.record(Stage.PROPAGATION) == (Evidence.ACKED, PROVED, 0.0)


def test_a_fixed_propagation_is_not_skipped_where_acks_cannot_be_measured():
    run = only(Stage.PROPAGATION, measurable=False, propagation=StagePlan(Evidence.FIXED, 50.0))
    assert run.begin() == []
    assert run.state is State.PROPAGATION


# -- validation ---------------------------------------------------------------------------------------------


def test_validation_pings_and_is_proved_by_the_pong():
    run = only(Stage.VALIDATION)
    assert run.begin(10.0) == [PING]
    run.at(10.8, pong=True)
    assert run.state is State.READY
    assert run.record(Stage.VALIDATION)[:2] == (Evidence.PONG, PROVED)
    assert [r.marks for r in run.stages.records if r.stage is Stage.VALIDATION] == [
        (("ping", 10.0), ("pong", 10.8))
    ]


def test_validation_is_proved_by_any_frame_while_its_ping_is_unanswered():
    run = only(Stage.VALIDATION)
    run.begin()
    run.at(0.3, frame=True)
    assert run.record(Stage.VALIDATION) == (Evidence.FRAME, PROVED, 0.3)


def test_a_peer_that_spoke_already_is_not_pinged_at_all():
    run = Run(stabilization=AT_ONCE)
    run.begin()
    assert run.at(0.3, frame=True) == []
    assert run.state is State.READY
    assert run.record(Stage.VALIDATION) == (Evidence.FRAME, PROVED, 0.0)


def test_validation_that_expires_proceeds_unproven():
    run = only(Stage.VALIDATION)
    run.begin()
    run.at(74.9)
    assert run.state is State.VALIDATION
    run.at(75.0)
    assert run.record(Stage.VALIDATION) == (Evidence.PONG, EXPIRED, 75.0)
    assert run.state is State.READY


def test_validation_by_frame_sends_no_ping():
    run = only(Stage.VALIDATION, validation=StagePlan(Evidence.FRAME, 75.0))
    assert run.begin() == []
    run.at(1.0, frame=True)
    assert run.record(Stage.VALIDATION) == (Evidence.FRAME, PROVED, 1.0)


def test_a_pong_that_comes_after_validation_expired_proves_nothing_any_more():
    run = Run(propagation=SKIP)
    run.begin()
    run.at(75.0)
    run.at(76.0, pong=True)
    assert run.record(Stage.VALIDATION) == (Evidence.PONG, EXPIRED, 75.0)
    assert run.state is State.STABILIZATION


def test_the_leg_is_validated_when_validation_is_over():
    run = Run(propagation=SKIP)
    run.begin()
    assert run.stages.validated_ms is None
    run.at(2.0, pong=True)
    assert run.stages.validated_ms == 2.0


# -- stabilization ------------------------------------------------------------------------------------------


def test_stabilization_is_proved_by_quiet_for_the_learned_window():
    run = only(Stage.STABILIZATION)
    run.begin()
    assert run.due_ms == 25.0
    run.at(24.9)
    assert run.state is State.STABILIZATION
    run.at(25.0)
    assert run.record(Stage.STABILIZATION) == (Evidence.QUIET, PROVED, 25.0)


def test_stabilization_of_a_trusted_route_costs_its_minimum():
    window = LearnedWindow(WindowPlan(1.0, 25.0))
    for _ in range(TRUST):
        window.survived()
    run = only(Stage.STABILIZATION, window=window)
    run.begin()
    run.at(1.0)
    assert run.record(Stage.STABILIZATION) == (Evidence.QUIET, PROVED, 1.0)


def test_a_window_whose_minimum_is_nothing_costs_one_look_at_the_sockets_once_it_is_trusted():
    window = LearnedWindow(WindowPlan(0.0, 25.0))
    for _ in range(TRUST):
        window.survived()
    run = only(Stage.STABILIZATION, window=window, stabilization=WindowPlan(0.0, 25.0))
    run.begin()
    assert (run.state, run.due_ms) == (State.STABILIZATION, 0.0)
    run.at(0.0)
    assert run.record(Stage.STABILIZATION) == (Evidence.QUIET, PROVED, 0.0)


def test_each_leg_that_stays_up_is_told_to_the_window_once():
    window = LearnedWindow(WindowPlan(1.0, 25.0))
    for n in range(TRUST):
        assert window.width_ms(0.0) == 25.0, n
        run = only(Stage.STABILIZATION, window=window)
        run.begin()
        run.at(25.0)
        run.at(26.0)
    assert window.width_ms(0.0) == 1.0


def test_quiet_is_not_proved_before_a_timer_says_that_the_sockets_were_read():
    run = only(Stage.STABILIZATION)
    run.begin()
    run.at(30.0, acked=True)  # a busy loop comes late, and has not looked yet
    assert run.state is State.STABILIZATION
    run.at(30.1)
    assert run.record(Stage.STABILIZATION) == (Evidence.QUIET, PROVED, 30.1)


def test_the_width_is_taken_when_the_stage_begins():
    run = only(Stage.STABILIZATION)
    run.begin()
    for _ in range(TRUST):
        run.window.survived()
    run.at(1.0)
    assert run.state is State.STABILIZATION


def test_what_the_peer_says_does_not_end_stabilization():
    run = only(Stage.STABILIZATION)
    run.begin()
    run.at(1.0, frame=True, acked=True, pong=True)
    assert run.state is State.STABILIZATION


def test_a_window_of_nothing_skips_stabilization():
    run = Run(propagation=SKIP, validation=SKIP, stabilization=AT_ONCE)
    run.begin()
    assert run.record(Stage.STABILIZATION) == (Evidence.QUIET, SKIPPED, 0.0)


# -- announcement -------------------------------------------------------------------------------------------


def test_a_leg_without_an_announcement_has_no_such_stage():
    run = only(Stage.ANNOUNCEMENT)
    run.begin()
    assert run.state is State.READY
    assert Stage.ANNOUNCEMENT not in [r.stage for r in run.stages.records]


def test_announcement_is_proved_when_it_was_heard():
    run = only(Stage.ANNOUNCEMENT, announcement=StagePlan(Evidence.MESSAGE, 2000.0))
    run.begin()
    run.at(5.0, frame=True)
    assert run.state is State.ANNOUNCEMENT
    run.at(1200.0, heard=True)
    assert run.record(Stage.ANNOUNCEMENT) == (Evidence.MESSAGE, PROVED, 1200.0)


def test_an_announcement_that_came_in_an_earlier_stage_counts_when_its_turn_comes():
    run = Run(announcement=StagePlan(Evidence.MESSAGE, 2000.0))
    run.begin()
    run.at(0.5, frame=True, heard=True)
    assert run.state is State.STABILIZATION
    run.at(25.5)
    assert run.state is State.READY
    assert run.record(Stage.ANNOUNCEMENT) == (Evidence.MESSAGE, PROVED, 0.0)


def test_announcement_that_expires_proceeds_unproven():
    run = only(Stage.ANNOUNCEMENT, announcement=StagePlan(Evidence.MESSAGE, 2000.0))
    run.begin()
    run.at(2000.0)
    assert run.state is State.READY
    assert run.record(Stage.ANNOUNCEMENT) == (Evidence.MESSAGE, EXPIRED, 2000.0)


# -- fixed, skipped, failed: the same for every stage -------------------------------------------------------

FIXED = StagePlan(Evidence.FIXED, 50.0)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_fixed_stage_is_a_plain_delay_that_nothing_shortens(stage):
    run = only(stage, **{stage: FIXED})
    assert run.begin(acked=True, frame=True) == []
    run.at(49.9, pong=True)
    assert run.state == State(stage)
    run.at(50.0)
    assert run.state is State.READY
    assert run.record(stage) == (Evidence.FIXED, EXPIRED, 50.0)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("evidence", [Evidence.ACKED, Evidence.PONG, Evidence.MESSAGE, Evidence.FIXED])
def test_a_stage_without_a_budget_is_skipped_at_once(stage, evidence):
    run = only(stage, **{stage: StagePlan(evidence, 0.0)})
    assert run.begin() == []
    assert run.state is State.READY
    assert run.record(stage)[1:] == (SKIPPED, 0.0)


@pytest.mark.parametrize(
    ("stage", "evidence"),
    [
        (Stage.PROPAGATION, Evidence.ACKED),
        (Stage.VALIDATION, Evidence.PONG),
        (Stage.VALIDATION, Evidence.FRAME),
        (Stage.ANNOUNCEMENT, Evidence.MESSAGE),
    ],
)
def test_a_stage_that_may_not_expire_fails_the_leg_and_stays_where_it_is(stage, evidence):
    run = only(stage, **{stage: StagePlan(evidence, 50.0, OnExpiry.FAIL)})
    run.begin()
    run.at(50.0)
    assert run.stages.failed
    assert run.state == State(stage)
    assert run.at(51.0, acked=True, frame=True) == []
    run.stages.abort(52.0)
    assert [r.outcome for r in run.stages.records if r.stage is stage] == [EXPIRED]


@pytest.mark.parametrize("stage", [Stage.PROPAGATION, Stage.VALIDATION, Stage.ANNOUNCEMENT])
def test_evidence_at_the_last_moment_wins_over_expiry(stage):
    evidence = {Stage.PROPAGATION: Evidence.ACKED, Stage.VALIDATION: Evidence.PONG}.get(
        stage, Evidence.MESSAGE
    )
    run = only(stage, **{stage: StagePlan(evidence, 50.0, OnExpiry.FAIL)})
    run.begin()
    learned = {Stage.PROPAGATION: "acked", Stage.VALIDATION: "pong"}.get(stage, "heard")
    run.at(50.0, **{learned: True})
    assert not run.stages.failed
    assert run.state is State.READY


# -- a leg as a whole ---------------------------------------------------------------------------------------


def test_a_leg_goes_through_all_its_stages_each_on_its_own_clock():
    run = Run(announcement=StagePlan(Evidence.MESSAGE, 2000.0))
    assert run.begin(100.0) == [POLL]
    assert run.at(101.0, acked=True) == [PING]
    assert run.due_ms == 101.0 + 75.0
    run.at(103.0, pong=True)
    assert run.due_ms == 103.0 + 25.0
    run.at(128.0)
    assert run.due_ms == 128.0 + 2000.0
    run.at(500.0, heard=True)
    assert run.due_ms is None
    assert run.records() == [
        (Stage.PROPAGATION, Evidence.ACKED, PROVED, 1.0),
        (Stage.VALIDATION, Evidence.PONG, PROVED, 2.0),
        (Stage.STABILIZATION, Evidence.QUIET, PROVED, 25.0),
        (Stage.ANNOUNCEMENT, Evidence.MESSAGE, PROVED, 372.0),
    ]
    assert [r.budget_ms for r in run.stages.records] == [50.0, 75.0, 25.0, 2000.0]
    assert {r.attempt for r in run.stages.records} == {1}


def test_a_leg_that_proves_nothing_costs_the_sum_of_its_budgets_and_no_more():
    run, at_ms = Run(announcement=StagePlan(Evidence.MESSAGE, 2000.0)), 0.0
    run.begin()
    while run.due_ms is not None:
        assert run.due_ms > at_ms
        at_ms = run.due_ms
        run.at(at_ms)
    assert run.state is State.READY
    assert at_ms == 50.0 + 75.0 + 25.0 + 2000.0


def test_classic_delays_add_up_as_they_always_did():
    run = Run(
        propagation=FIXED, validation=FIXED, stabilization=StagePlan(Evidence.FIXED, 25.0), measurable=False
    )
    run.begin()
    for at_ms in (50.0, 100.0, 125.0):
        assert run.due_ms == at_ms
        run.at(at_ms)
    assert run.state is State.READY


def test_a_late_clock_ends_one_stage_only_since_the_next_begins_late_too():
    run = Run()
    run.begin()
    assert run.at(500.0) == [PING]
    assert run.state is State.VALIDATION
    assert run.due_ms == 575.0


@pytest.mark.parametrize("stage", list(Stage))
def test_a_leg_that_is_lost_in_a_stage_records_it_as_failed_once(stage):
    budget = {
        Stage.PROPAGATION: {},
        Stage.VALIDATION: {"propagation": SKIP},
        Stage.STABILIZATION: {"propagation": SKIP, "validation": SKIP},
        Stage.ANNOUNCEMENT: {**ONLY[Stage.ANNOUNCEMENT], "announcement": StagePlan(Evidence.MESSAGE, 9.0)},
    }
    run = Run(**budget[stage])
    run.begin()
    run.stages.abort(3.0)
    run.stages.abort(4.0)
    assert run.record(stage)[1:] == (FAILED, 3.0)
    assert run.due_ms is None


def test_a_leg_that_is_lost_when_it_is_ready_records_nothing_more():
    run = Run(propagation=SKIP, validation=SKIP, stabilization=AT_ONCE)
    run.begin()
    before = run.records()
    run.stages.abort(3.0)
    assert run.records() == before


@pytest.mark.parametrize("stage", [Stage.VALIDATION, Stage.ANNOUNCEMENT])
def test_a_leg_that_is_not_read_any_more_is_not_waited_for(stage):
    run = only(stage, announcement=StagePlan(Evidence.MESSAGE, 2000.0))
    run.stages.deaf = True
    run.begin()
    assert run.state is State.READY
    assert run.record(stage)[1] is SKIPPED
