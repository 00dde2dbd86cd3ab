"""What may be tried again, how often, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.plan import RedialPlan
from proxy.core.redial import Redials


def redials(chance=0.5, **plan):
    return Redials(RedialPlan(**plan), lambda: chance)


def test_the_delay_doubles_from_its_base_to_its_maximum():
    tries = redials(base_ms=25.0, max_ms=1000.0)
    delays = [tries.next_after_ms("refused") for _ in range(8)]
    assert delays == [25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1000.0, 1000.0]


def test_thousands_of_refusals_do_not_overflow_the_delay():
    tries = redials(max_ms=1000.0)
    assert {tries.next_after_ms("refused") for _ in range(5000)} >= {1000.0}


@pytest.mark.parametrize(("chance", "delay_ms"), [(0.0, 50.0), (0.5, 100.0), (0.75, 125.0)])
def test_jitter_stretches_and_shortens_the_delay_around_its_middle(chance, delay_ms):
    assert redials(chance, base_ms=100.0, jitter=0.5).next_after_ms("lost") == delay_ms


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.integers(1, 40))
def test_the_delay_stays_within_its_jitter_and_is_never_negative(chance, jitter, tries):
    each = redials(chance, base_ms=25.0, max_ms=1000.0, jitter=jitter)
    for n in range(tries):
        middle = min(25.0 * 2.0**n, 1000.0)
        delay = each.next_after_ms("x")
        assert delay >= 0.0
        assert abs(delay - middle) <= middle * jitter + 1e-9


def test_the_causes_are_kept_in_order():
    tries = redials()
    for cause in ("refused", "status_503", "close_1011"):
        tries.next_after_ms(cause)
    assert tries.causes == ["refused", "status_503", "close_1011"]


def test_tries_that_did_not_reach_the_upstream_do_not_use_up_what_there_is():
    tries = redials(tries=1)
    for _ in range(100):
        tries.next_after_ms("refused")
    assert not tries.exhausted


@pytest.mark.parametrize(("reached", "exhausted"), [(0, False), (2, False), (3, True), (4, True)])
def test_the_upstream_is_reached_as_often_as_the_plan_says(reached, exhausted):
    tries = redials(tries=3)
    tries.reached = reached
    assert tries.exhausted is exhausted


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_status_of_the_plan_may_be_tried_again_until_tries_run_out(status):
    tries = redials(tries=1)
    assert tries.status_allows(status)
    tries.reached = 1
    assert not tries.status_allows(status)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 426, 429, 501])
def test_any_other_status_is_the_backends_own_answer(status):
    assert not redials().status_allows(status)


@pytest.mark.parametrize("code", [1006, 1011, 1012, 1013, 1014])
def test_a_close_of_the_plan_may_be_tried_again_until_tries_run_out(code):
    tries = redials(tries=1)
    assert tries.close_allows(code)
    tries.reached = 1
    assert not tries.close_allows(code)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 3000, 4401])
def test_any_other_close_is_the_backends_own_answer(code):
    assert not redials().close_allows(code)
