"""A leg moves as the one table says, and in no other way."""

from __future__ import annotations

import re

import pytest

from proxy.core.leg import TRANSITIONS, IllegalTransition, Leg, State, Trigger, mermaid
from proxy.core.plan import Role, Stage
from tests.core.draw_legs import PAGE, page

LEGAL = [(state, trigger, after) for state, row in TRANSITIONS.items() for trigger, after in row.items()]
ILLEGAL = [(state, trigger) for state in State for trigger in Trigger if trigger not in TRANSITIONS[state]]
STAGES = {State.PROPAGATION, State.VALIDATION, State.STABILIZATION, State.ANNOUNCEMENT}


def leg_in(state, role=Role.UPSTREAM):
    leg = Leg(role)
    leg.state = state
    return leg


@pytest.mark.parametrize(("state", "trigger", "after"), LEGAL)
def test_every_transition_of_the_table_is_made(state, trigger, after):
    leg = leg_in(state)
    leg.move(trigger)
    assert leg.state is after


@pytest.mark.parametrize(("state", "trigger"), ILLEGAL)
def test_every_transition_that_the_table_lacks_raises_and_changes_nothing(state, trigger):
    leg = leg_in(state)
    with pytest.raises(IllegalTransition, match=f"upstream leg: {trigger} while {state}"):
        leg.move(trigger)
    assert leg.state is state


def test_the_upstream_leg_goes_all_the_way_through_its_stages_to_the_end():
    leg, seen = Leg(Role.UPSTREAM), []
    way = [Trigger.DIAL, Trigger.CONNECTED, Trigger.ACCEPTED, *[Trigger.PASS] * 4]
    for trigger in [*way, Trigger.OPEN, Trigger.DEPART, Trigger.CLOSE]:
        leg.move(trigger)
        seen.append(leg.state)
    assert seen == list(State)[1:]


def test_the_client_leg_begins_with_its_101():
    leg = Leg(Role.CLIENT)
    leg.move(Trigger.ACCEPTED)
    assert leg.stage is Stage.PROPAGATION


@pytest.mark.parametrize("state", list(State))
def test_a_leg_knows_what_its_state_means(state):
    leg = leg_in(state)
    assert leg.stage == (Stage(state) if state in STAGES else None)
    assert leg.ready is (state is State.READY)
    assert leg.closed is (state is State.CLOSED)


@pytest.mark.parametrize("state", [State.CONNECTING, State.UPGRADING, *sorted(STAGES), State.READY])
def test_until_the_gate_opens_a_failed_try_can_be_followed_by_another(state):
    leg = leg_in(state)
    leg.move(Trigger.REDIAL)
    leg.move(Trigger.DIAL)
    assert leg.state is State.CONNECTING


@pytest.mark.parametrize("state", [State.OPEN, State.DEPARTING, State.CLOSED])
def test_once_the_gate_opened_there_is_no_redial(state):
    assert Trigger.REDIAL not in TRANSITIONS[state]


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_any_leg_can_be_closed_and_a_closed_one_stays_closed(state):
    assert TRANSITIONS[state][Trigger.CLOSE] is State.CLOSED
    assert not TRANSITIONS[State.CLOSED]


def test_the_picture_has_the_arrows_of_the_table_and_no_others():
    drawn = set()
    for line in mermaid().splitlines():
        if arrow := re.fullmatch(r" +(\w+) --> (\w+): (.+)", line):
            before, after, triggers = arrow.groups()
            drawn |= {(State(before), Trigger(name), State(after)) for name in triggers.split(" / ")}
    assert drawn == set(LEGAL)


def test_the_picture_in_the_documentation_is_in_step_with_the_table():
    assert PAGE.read_text() == page(), "run: python -m tests.core.draw_legs"


def test_the_documentation_explains_every_trigger():
    assert re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE) == list(Trigger)
