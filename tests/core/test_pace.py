"""A leg that says more than it may in a second is not read for as long as that costs."""

from __future__ import annotations

import pytest

from proxy.core.pace import Pace


def test_a_seconds_worth_of_messages_may_come_at_once():
    assert Pace(10).took(10, 5000.0) == 0.0


def test_what_comes_beyond_has_to_be_waited_for():
    assert Pace(10).took(15, 5000.0) == pytest.approx(500.0)


def test_a_leg_at_its_pace_never_waits():
    pace = Pace(10)
    assert all(pace.took(1, 100.0 * step) == 0.0 for step in range(100))


def test_over_a_long_time_the_rate_holds_whatever_the_chunks():
    pace, at_ms = Pace(50), 0.0
    for step in range(400):
        at_ms += pace.took(1 + step % 7, at_ms)
    messages = sum(1 + step % 7 for step in range(400))
    assert at_ms == pytest.approx((messages - 50) * 20, rel=0.02)


def test_silence_is_not_saved_up_beyond_a_second():
    pace = Pace(10)
    pace.took(10, 0.0)
    assert pace.took(20, 60_000.0) == pytest.approx(1000.0)


def test_less_than_one_message_a_second_still_lets_the_first_pass():
    pace = Pace(0.5)
    assert pace.took(1, 0.0) == 0.0
    assert pace.took(1, 0.0) == pytest.approx(2000.0)
