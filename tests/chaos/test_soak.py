"""The soak's verdict on memory."""

from __future__ import annotations

import pytest

from tests.soak.trend import Sample, least_squares, trend


def samples(kb_per_s: float, seconds: int = 900) -> list[Sample]:
    """A run that jumps while it warms up, then grows evenly around some noise."""
    jump = [Sample(at, 50_000 + 200 * at, 20, 3) for at in range(0, 120, 5)]
    return jump + [
        Sample(at, round(80_000 + kb_per_s * at) + at % 2 * 10, 20, 3) for at in range(120, seconds, 5)
    ]


def test_a_line_through_points_on_a_line_is_that_line():
    assert least_squares([(x, 3 + 2 * x) for x in range(10)]) == pytest.approx(2)


def test_memory_that_stays_does_not_grow_whatever_the_warm_up_did():
    found = trend(samples(0), 900)
    assert found.kb_per_minute == pytest.approx(0, abs=1)
    assert not found.grows


def test_six_megabytes_in_a_run_are_growth():
    found = trend(samples(6 * 1024 / 900), 900)
    assert found.growth_kb == pytest.approx(6 * 1024, rel=0.02)
    assert found.grows


def test_a_run_that_is_too_short_has_no_slope():
    with pytest.raises(ValueError, match="1 samples"):
        trend([Sample(5, 1, 1, 1)], 10)
