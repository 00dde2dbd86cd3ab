"""An upstream is told that its client has left when it has gone quiet."""

from __future__ import annotations

import pytest

from proxy.core.departure import Departure, DeparturePlan

PLAN = DeparturePlan(quiet_ms=50.0, max_ms=200.0)


def test_an_upstream_that_was_spoken_to_just_now_is_told_after_its_quiet_time():
    departure = Departure(PLAN, at_ms=1000.0, active_ms=1000.0)
    assert departure.due_ms == 1050.0
    assert not departure.over(1049.9)
    assert departure.over(1050.0)


@pytest.mark.parametrize("active_ms", [950.0, 0.0])
def test_a_session_that_was_quiet_that_long_already_departs_with_no_delay(active_ms):
    assert Departure(PLAN, at_ms=1000.0, active_ms=active_ms).over(1000.0)


def test_a_part_of_the_quiet_time_that_has_passed_counts():
    assert Departure(PLAN, at_ms=1000.0, active_ms=980.0).due_ms == 1030.0


def test_what_the_upstream_still_says_starts_the_quiet_time_anew():
    departure = Departure(PLAN, at_ms=1000.0, active_ms=1000.0)
    departure.heard(1040.0)
    assert not departure.over(1050.0)
    assert departure.due_ms == 1090.0


def test_an_upstream_that_never_falls_quiet_is_told_at_the_cap():
    departure = Departure(PLAN, at_ms=1000.0, active_ms=1000.0)
    for at_ms in range(1000, 1200, 10):
        departure.heard(float(at_ms))
        assert not departure.over(float(at_ms))
    assert departure.due_ms == 1200.0
    assert departure.over(1200.0)
