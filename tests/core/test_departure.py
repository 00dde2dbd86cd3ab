"""An upstream is told that its client has left when it has gone quiet, for as long as replies take."""

from __future__ import annotations

import pytest

from proxy.core.departure import ENOUGH, Departure, DeparturePlan, LearnedQuiet, Step

PLAN = DeparturePlan(enabled=True, quiet_ms=250.0, min_ms=20.0, max_ms=2000.0, longest_ms=10_000.0)


def departure(*, asked_ms: float, heard_ms: float) -> Departure:
    watching = Departure(50.0, 150.0, 200.0, at_ms=1000.0)
    watching.asked(asked_ms)
    watching.heard(heard_ms)
    return watching


def test_an_upstream_that_has_just_replied_is_told_after_its_quiet_time():
    just_now = departure(asked_ms=990.0, heard_ms=1000.0)
    assert just_now.due_ms == 1050.0
    assert just_now.look(1049.9) is Step.WAIT
    assert just_now.look(1050.0) is Step.TELL


def test_a_reply_that_is_still_to_come_is_waited_for_longer():
    busy = departure(asked_ms=1000.0, heard_ms=990.0)
    assert busy.due_ms == 1150.0
    busy.heard(1100.0)
    assert busy.due_ms == 1150.0  # it has come: the quiet time counts
    assert busy.look(1150.0) is Step.TELL


def test_an_upstream_that_was_never_asked_anything_only_has_to_be_quiet():
    pushing = Departure(50.0, 150.0, 200.0, at_ms=1000.0)
    pushing.heard(1000.0)
    assert pushing.due_ms == 1050.0


@pytest.mark.parametrize("heard_ms", [950.0, 0.0])
def test_a_session_that_was_quiet_that_long_already_departs_with_no_delay(heard_ms):
    assert departure(asked_ms=heard_ms - 10, heard_ms=heard_ms).look(1000.0) is Step.TELL


def test_a_reply_that_has_not_come_for_that_long_is_not_waited_for():
    assert departure(asked_ms=850.0, heard_ms=840.0).look(1000.0) is Step.TELL


def test_a_part_of_the_quiet_time_that_has_passed_counts():
    assert departure(asked_ms=0.0, heard_ms=980.0).due_ms == 1030.0


def test_what_happens_on_the_leg_starts_the_quiet_time_anew():
    speaking = departure(asked_ms=990.0, heard_ms=1000.0)
    speaking.heard(1040.0)
    speaking.heard(1030.0)  # told late, and nothing new
    assert speaking.look(1050.0) is Step.WAIT
    assert speaking.due_ms == 1090.0


def test_an_upstream_that_never_falls_quiet_is_told_at_the_cap():
    speaking = departure(asked_ms=990.0, heard_ms=1000.0)
    for at_ms in range(1000, 1200, 10):
        speaking.heard(float(at_ms))
        assert speaking.look(float(at_ms)) is Step.WAIT
    assert speaking.due_ms == 1200.0
    assert speaking.look(1200.0) is Step.TELL
    assert speaking.waited_ms(1200.0) == 200.0


def test_an_upstream_that_has_not_taken_all_is_not_told_before_the_cap():
    silent = departure(asked_ms=0.0, heard_ms=0.0)
    assert silent.look(1199.9, taken=lambda: False) is Step.WAIT
    assert silent.look(1200.0, taken=lambda: False) is Step.TELL


# -- its silence is proved ---------------------------------------------------------------------------------


def asked_for_proof(*, heard_ms: float = 1000.0) -> Departure:
    """One that has been quiet for long enough, and has our ping since 1050."""
    watching = Departure(50.0, 150.0, 5000.0, at_ms=1000.0, answers=True)
    watching.heard(heard_ms)
    assert watching.look(1049.9) is Step.WAIT
    assert watching.look(1050.0) is Step.PING
    assert watching.look(1060.0) is Step.WAIT
    return watching


def test_an_upstream_that_answers_pings_is_told_when_it_stays_silent_after_a_pong():
    quiet = asked_for_proof()
    quiet.ponged(1050.5)
    assert quiet.due_ms == 1060.5
    assert quiet.look(1060.4) is Step.WAIT
    assert quiet.look(1060.5) is Step.TELL


def test_a_late_pong_shows_a_busy_upstream_which_is_given_more_time():
    busy = asked_for_proof()
    busy.ponged(1250.0)
    assert busy.look(1849.9) is Step.WAIT
    assert busy.look(1850.0) is Step.TELL


@pytest.mark.parametrize("what", ["heard", "asked"])
def test_what_happens_after_the_ping_makes_the_proof_void(what):
    busy = asked_for_proof()
    busy.ponged(1055.0)
    getattr(busy, what)(1056.0)
    due_ms = 1056.0 + (50.0 if what == "heard" else 150.0)
    assert busy.due_ms == due_ms
    assert busy.look(due_ms) is Step.PING
    busy.ponged(due_ms + 1)
    assert busy.look(due_ms + 11) is Step.TELL


def test_what_was_heard_before_the_ping_and_is_told_late_changes_nothing():
    quiet = asked_for_proof()
    quiet.ponged(1051.0)
    quiet.heard(1050.0)
    assert quiet.look(1061.0) is Step.TELL


def test_a_pong_that_never_comes_is_waited_for_until_the_cap():
    dead = asked_for_proof()
    assert dead.due_ms == 1160.0  # perhaps it says something
    assert dead.look(5999.9) is Step.WAIT
    assert dead.look(6000.0) is Step.TELL


def test_no_proof_is_asked_for_where_no_ping_may_be_put_in():
    torso = Departure(50.0, 150.0, 5000.0, at_ms=1000.0, answers=True)
    torso.heard(1000.0)
    assert torso.look(1050.0, free=False) is Step.TELL


def test_a_session_that_was_quiet_already_needs_no_proof():
    idle = Departure(50.0, 150.0, 5000.0, at_ms=1000.0, answers=True)
    idle.heard(950.0)
    assert idle.look(1000.0) is Step.TELL


# -- what is learned ---------------------------------------------------------------------------------------


def learned(*replies_ms: float, plan: DeparturePlan = PLAN) -> float:
    quiet = LearnedQuiet(plan)
    for reply_ms in replies_ms:
        quiet.replied(reply_ms)
    return quiet.quiet_ms


def test_of_a_route_without_a_reply_the_plans_own_quiet_time_counts():
    assert learned() == 250.0


def test_a_plans_quiet_time_is_no_longer_than_its_maximum():
    assert learned(plan=DeparturePlan(True, 250.0, 20.0, 100.0, 10_000.0)) == 100.0


def test_few_quick_replies_do_not_shorten_the_quiet_time():
    assert learned(*[2.0] * (ENOUGH - 1)) == 250.0


def test_one_slow_reply_among_few_lengthens_it():
    assert learned(2.0, 400.0) == 1200.0


def test_many_quick_replies_shorten_it_to_the_minimum():
    assert learned(*[2.0] * ENOUGH) == 20.0


def test_many_replies_give_a_high_percentile_with_a_margin():
    assert learned(*[float(ms) for ms in range(1, 101)]) == 300.0


def test_slow_replies_lengthen_it_to_the_maximum_and_no_further():
    assert learned(*[5000.0] * ENOUGH) == 2000.0


def test_the_pauses_of_a_stream_count_and_the_silence_between_two_does_not():
    quiet = LearnedQuiet(PLAN)
    for _ in range(ENOUGH):
        quiet.replied(2.0)
        quiet.paused(50.0)
        quiet.paused(30_000.0)
    assert quiet.quiet_ms == 150.0


def test_old_replies_are_forgotten():
    assert learned(*[1000.0] * 50, *[2.0] * 256) == 20.0


def test_what_was_worked_out_follows_what_is_learned_later():
    quiet = LearnedQuiet(PLAN)
    assert quiet.quiet_ms == 250.0
    quiet.replied(500.0)
    assert quiet.quiet_ms == 1500.0


def test_of_a_route_that_replies_a_late_reply_is_waited_for_up_to_the_maximum():
    quiet = LearnedQuiet(PLAN)
    assert quiet.patience_ms == 250.0  # it may never reply to anything
    quiet.replied(2.0)
    assert quiet.patience_ms == 2000.0
