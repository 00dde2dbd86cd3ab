"""The stabilization window follows how soon recent legs of a route were lost."""

from __future__ import annotations

import pytest

from proxy.core.adaptive import ENOUGH, MARGIN, TRUST, LearnedWindow
from proxy.core.plan import WindowPlan

PLAN = WindowPlan(min_ms=1.0, max_ms=25.0, memory_s=60.0)


def window_after(*, survived=0, lost=(), at_ms=0.0, plan=PLAN):
    window = LearnedWindow(plan)
    for _ in range(survived):
        window.survived()
    for age_ms in lost:
        window.lost(age_ms, at_ms)
    return window


def test_asking_for_the_width_changes_nothing():
    window = window_after(survived=TRUST, lost=[1.0])
    later = (PLAN.memory_s + 1) * 1000
    assert window.width_ms(later) == window.width_ms(later)
    assert window.width_ms(1.0) == PLAN.max_ms


def test_a_window_that_knows_nothing_is_wide():
    assert LearnedWindow(PLAN).width_ms(0.0) == 25.0


def test_a_window_that_trusts_begins_at_its_minimum_and_learns_like_any_other():
    window = LearnedWindow(PLAN, trusting=True)
    assert window.width_ms(0.0) == 1.0
    window.lost(3.0, 0.0)
    assert window.width_ms(0.0) == 25.0


def test_it_stays_wide_until_enough_legs_in_a_row_stayed_up():
    assert window_after(survived=TRUST - 1).width_ms(0.0) == 25.0


def test_it_falls_to_the_minimum_once_they_did():
    assert window_after(survived=TRUST).width_ms(0.0) == 1.0


def test_one_early_loss_raises_it_at_once():
    window = window_after(survived=1000)
    window.lost(3.0, 0.0)
    assert window.width_ms(0.0) == 25.0


def test_a_leg_that_survives_does_not_outweigh_a_recent_loss():
    window = window_after(lost=[3.0])
    for _ in range(TRUST):
        window.survived()
    assert window.width_ms(1000.0) == 25.0


@pytest.mark.parametrize(("age_ms", "width_ms"), [(25.0, 25.0), (25.1, 1.0)])
def test_a_loss_that_no_window_could_have_seen_teaches_nothing(age_ms, width_ms):
    window = window_after(survived=TRUST)
    window.lost(age_ms, 0.0)
    assert window.width_ms(0.0) == width_ms


def test_with_too_few_losses_for_a_percentile_it_stays_at_the_maximum():
    assert window_after(lost=[2.0] * (ENOUGH - 1)).width_ms(0.0) == 25.0


def test_with_enough_losses_it_is_their_high_percentile_with_a_margin():
    assert window_after(lost=[2.0] * ENOUGH).width_ms(0.0) == 2.0 * MARGIN


def test_one_loss_in_two_hundred_that_came_far_later_does_not_set_the_width():
    assert window_after(lost=[*[4.0] * 199, 16.0]).width_ms(0.0) == 4.0 * MARGIN


def test_the_order_in_which_losses_came_does_not_matter():
    ages = [float(age) for age in range(1, 16)] * 2
    assert window_after(lost=ages).width_ms(0.0) == window_after(lost=ages[::-1]).width_ms(0.0)


@pytest.mark.parametrize(("age_ms", "width_ms"), [(0.0, 1.0), (0.1, 1.0), (20.0, 25.0)])
def test_what_it_learned_is_clamped_to_its_bounds(age_ms, width_ms):
    assert window_after(lost=[age_ms] * ENOUGH).width_ms(0.0) == width_ms


def test_losses_are_forgotten_after_their_time():
    window = window_after(lost=[3.0], at_ms=1000.0)
    for _ in range(TRUST):
        window.survived()
    assert window.width_ms(61_000.0) == 25.0
    assert window.width_ms(61_001.0) == 1.0


def test_when_its_losses_are_forgotten_and_nothing_came_since_it_knows_nothing():
    window = window_after(survived=TRUST, lost=[3.0])
    assert window.width_ms(61_000.0) == 25.0


def test_it_remembers_a_bounded_number_of_losses():
    window = window_after(lost=[20.0] * 300)
    for _ in range(256):
        window.lost(2.0, 0.0)
    assert window.width_ms(0.0) == 2.0 * MARGIN


def test_a_window_of_nothing_learns_nothing_and_costs_nothing():
    window = window_after(lost=[0.0] * ENOUGH, plan=WindowPlan(0.0, 0.0))
    assert window.width_ms(0.0) == 0.0


def test_losses_before_validation_never_narrow_the_window():
    window = LearnedWindow(WindowPlan(0.0, 25.0))
    for _ in range(100):
        window.lost(None, 0.0)
    assert window.width_ms(0.0) == 25.0


def test_a_peer_that_was_not_reached_is_not_trusted_until_legs_stayed_up_again():
    window = LearnedWindow(WindowPlan(0.0, 25.0))
    for _ in range(TRUST):
        window.survived()
    assert window.width_ms(0.0) == 0.0
    window.doubt()
    assert window.width_ms(0.0) == 25.0
