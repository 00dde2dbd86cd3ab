"""A silent leg is pinged, and dead when nothing shows that somebody is there."""

from __future__ import annotations

from math import inf

import pytest

from proxy.core.keepalive import Keepalive, KeepalivePlan, Signs, Verdict

PLAN = KeepalivePlan(interval_ms=20.0, timeout_ms=60.0)
FINE, PING, DEAD = Verdict.FINE, Verdict.PING, Verdict.DEAD


def watching(*, answers: bool = True) -> Keepalive:
    return Keepalive(PLAN, 0.0, answers=answers)


def signs(heard_ms: float = 0.0, taken: int | None = 0, unacked: int | None = 0, **more: bool) -> Signs:
    return Signs(heard_ms, taken, unacked, **more)


def test_a_leg_that_speaks_is_left_alone():
    leg = watching()
    assert leg.due_ms == 20
    for at_ms in range(20, 400, 20):
        assert leg.look(at_ms, signs(heard_ms=at_ms - 5)) is FINE
        assert leg.due_ms == at_ms + 15


def test_a_leg_that_was_silent_for_the_interval_is_pinged_once():
    leg = watching()
    assert leg.look(19, signs()) is FINE
    assert leg.look(20, signs()) is PING
    assert leg.due_ms == 60
    assert leg.look(40, signs()) is FINE


def test_a_leg_that_answers_is_pinged_again_after_another_interval_of_silence():
    leg = watching()
    assert leg.look(20, signs()) is PING
    leg.ponged(21)
    assert leg.look(60, signs()) is PING
    leg.ponged(62)
    assert leg.look(81, signs()) is FINE
    assert leg.due_ms == 86  # not more often than a quarter of the interval


def test_after_a_pong_the_next_ping_is_an_interval_away_and_not_the_rest_of_the_timeout():
    leg = watching()
    for at_ms in range(20, 400, 20):
        assert leg.due_ms == at_ms
        assert leg.look(at_ms, signs()) is PING
        leg.ponged(at_ms)


def test_a_peer_that_has_never_answered_a_ping_is_not_left_alone_for_longer():
    leg = watching(answers=False)
    pings = []
    while leg.due_ms < 400:
        at_ms = leg.due_ms
        if leg.look(at_ms, signs()) is PING:
            pings.append(at_ms)
    assert pings == list(range(20, 400, 25))  # it has taken the ping when it is looked at, 5 ms later


def test_a_peer_that_was_not_asked_yet_is_asked_at_once_and_its_answer_counts():
    """One that spoke before it was asked proved ready without a ping."""
    leg = Keepalive(PLAN, 0.0, answers=None)
    assert leg.due_ms == 0
    assert leg.look(1, signs(heard_ms=1, free=False)) is FINE
    assert leg.look(6, signs(heard_ms=5)) is PING
    leg.ponged(7)
    assert leg.look(27, signs(heard_ms=5)) is PING
    assert leg.look(67, signs(heard_ms=5)) is DEAD


def test_a_peer_that_was_not_asked_yet_and_does_not_answer_is_judged_as_one_that_never_does():
    leg = Keepalive(PLAN, 0.0, answers=None)
    for at_ms in range(1, 1000, 20):
        assert leg.look(at_ms, signs(heard_ms=at_ms / 2)) in {FINE, PING}


def test_a_leg_that_never_answers_again_is_dead_after_the_timeout():
    leg = watching()
    leg.look(20, signs())
    assert leg.look(59, signs()) is FINE
    assert leg.look(60, signs()) is DEAD


def test_anything_it_says_is_as_good_as_a_pong():
    leg = watching()
    leg.look(20, signs())
    assert leg.look(60, signs(heard_ms=50)) is FINE
    assert leg.look(70, signs(heard_ms=50)) is PING


def test_a_peer_that_has_never_answered_a_ping_lives_as_long_as_its_kernel_acknowledges():
    leg = watching(answers=False)
    for at_ms in range(20, 1000, 20):
        assert leg.look(at_ms, signs()) in {FINE, PING}


def test_a_peer_that_has_never_answered_a_ping_is_dead_when_our_ping_is_not_even_acknowledged():
    leg = watching(answers=False)
    assert leg.look(20, signs()) is PING
    assert leg.look(59, signs(taken=-10, unacked=10)) is FINE
    assert leg.look(60, signs(taken=-10, unacked=10)) is DEAD


def test_a_peer_that_has_answered_once_has_to_answer_from_then_on():
    leg = watching(answers=False)
    leg.look(20, signs())
    leg.ponged(21)
    assert leg.look(41, signs()) is PING
    assert leg.look(81, signs()) is DEAD


def test_where_no_kernel_tells_a_peer_that_never_answers_is_served_and_not_judged():
    leg = watching(answers=False)
    for at_ms in range(20, 1000, 20):
        assert leg.look(at_ms, signs(taken=None, unacked=None)) in {FINE, PING}


def test_a_slow_reader_is_alive_as_long_as_it_takes_something():
    leg = watching()
    for step in range(1, 50):
        assert leg.look(step * 15, signs(taken=step * 100, unacked=50_000)) in {FINE, PING}


def test_bytes_that_a_kernel_takes_are_no_answer_to_a_ping_that_it_has_taken_too():
    """A link may be dead behind a load balancer, whose own kernel takes all that we write."""
    leg = watching()
    assert leg.look(20, signs(taken=1000)) is PING
    assert leg.look(40, signs(taken=2000)) is FINE
    assert leg.look(60, signs(taken=3000)) is DEAD


def test_nor_is_it_that_the_last_few_bytes_are_always_under_way():
    leg = watching()
    assert leg.look(20, signs(taken=1000, unacked=20)) is PING
    assert leg.look(40, signs(taken=2000, unacked=20)) is FINE
    assert leg.look(60, signs(taken=3000, unacked=20)) is DEAD


def test_a_reader_that_takes_nothing_any_more_is_dead_after_the_timeout():
    leg = watching()
    assert leg.look(20, signs(taken=100, unacked=50_000, free=False)) is FINE
    assert leg.look(40, signs(taken=100, unacked=50_000, free=False)) is FINE
    assert leg.look(60, signs(taken=100, unacked=50_000, free=False)) is DEAD


def test_a_leg_that_we_do_not_read_is_not_judged_by_its_silence():
    leg = watching()
    for at_ms in range(20, 400, 20):
        assert leg.look(at_ms, signs(paused=True)) is FINE
    assert leg.look(399, signs()) is FINE
    assert leg.look(400, signs()) is PING  # the silence counts from when it was read again


def test_a_ping_waits_until_the_frame_under_way_has_ended():
    leg = watching()
    assert leg.look(20, signs(free=False)) is FINE
    assert leg.due_ms == 25
    assert leg.look(70, signs(free=False)) is FINE  # it could not be asked, so its silence says nothing
    assert leg.look(75, signs()) is PING
    assert leg.look(80, signs()) is FINE  # and it gets its time to answer
    assert leg.look(115, signs()) is DEAD


def test_a_leg_that_stopped_inside_a_frame_and_cannot_be_asked_is_dead_after_the_timeout():
    leg = watching()
    assert leg.look(59, signs(free=False, torso=True)) is FINE
    assert leg.look(60, signs(free=False, torso=True)) is DEAD


def test_bytes_written_just_now_do_not_make_a_silent_leg_dead_at_once():
    leg = watching()
    leg.look(20, signs(free=False))
    assert leg.look(70, signs(taken=0, unacked=500, free=False)) is FINE
    assert leg.look(110, signs(taken=0, unacked=500, free=False)) is DEAD


@pytest.mark.parametrize("at_ms", [20, 60, 10_000])
def test_without_an_interval_nothing_is_asked_or_judged(at_ms):
    leg = Keepalive(KeepalivePlan(None, 60.0), 0.0, answers=True)
    assert leg.due_ms == inf
    assert leg.look(at_ms, signs(unacked=10)) is FINE
    assert leg.due_ms == inf
