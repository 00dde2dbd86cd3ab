"""Memory is given back after a wave, and not at every ripple."""

from __future__ import annotations

from proxy.edge.memory import Tide, release


def test_a_wave_that_goes_down_to_a_quarter_has_ebbed_once():
    tide = Tide()
    ups = [tide.ebbed(sessions) for sessions in range(1001)]
    downs = [sessions for sessions in range(1000, -1, -1) if tide.ebbed(sessions)]
    assert not any(ups)
    assert downs[0] == 250
    assert len(downs) == 1


def test_ripples_are_not_worth_it():
    tide = Tide()
    assert not any(tide.ebbed(sessions % 200) for sessions in range(2000))


def test_release_runs_on_this_system():
    release()
