"""A client that leaves before the gate opens: the backend never trips, and what it said is delivered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.commands import (
    AcceptClient,
    CloseClient,
    DepartUpstream,
    Dial,
    DropUpstream,
    MirrorResponse,
    OpenGate,
    PollAcked,
    RefuseClient,
    SendPing,
)
from proxy.core.events import (
    ClientAccepted,
    DrainStarted,
    LegLost,
    TimerFired,
    UpgradeRequested,
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.frames import TEXT, frame
from proxy.core.handshake import learned_windows
from proxy.core.plan import Accept, Evidence, RedialPlan, StagePlan
from proxy.core.report import EarlyCount, Outcome
from tests.core.script import (
    CLIENT,
    DEADLINE_MS,
    HELLO,
    KEY,
    NONCE,
    PONGS,
    UPSTREAM,
    WELCOME,
    Ends,
    bare_plan,
    closed,
    handshake_plan,
    leg_plan,
    said,
)

ABANDONED = Ends(outcome=Outcome.ABANDONED)


def loses(handshake, clock):
    """The client's connection ends without a word."""
    return handshake >> LegLost(clock.now, CLIENT)


def announced_plan(**changes):
    """A plan whose upstream waits long for an announcement; all else is skipped."""
    plan = bare_plan(**changes)
    return replace(plan, upstream=replace(plan.upstream, announcement=StagePlan(Evidence.MESSAGE, 60_000.0)))


# -- it said nothing ----------------------------------------------------------------------------------------


def test_nothing_said_and_the_request_not_out_cancels_the_dial(handshake, clock):
    loses(handshake.requested(clock), clock) << DropUpstream()
    handshake << Ends(outcome=Outcome.ABANDONED, status=None, redials=())
    assert handshake.states() == ("idle", "closed")


def test_nothing_said_while_the_next_try_is_waited_for_cancels_that(handshake, clock):
    handshake.requested(clock) >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    loses(handshake, clock) << DropUpstream() << ABANDONED


def test_nothing_said_and_the_request_out_lets_the_upstream_finish_its_101_and_depart(handshake, clock):
    loses(handshake.upgrading(clock), clock)
    assert not handshake.core.finished, "accept() must not trip"
    handshake >> UpstreamAccepted(clock.ms(500)) << DepartUpstream(None)
    handshake << Ends(outcome=Outcome.ABANDONED, status=None)


def test_nothing_said_and_the_upstream_rejects_ends_without_a_redial(handshake, clock):
    loses(handshake.upgrading(clock), clock)
    handshake >> UpstreamRejected(clock.now, 503) << Ends(outcome=Outcome.ABANDONED, status=None, redials=())


def test_nothing_said_and_the_upstream_is_lost_ends_without_a_redial(handshake, clock):
    loses(handshake.upgrading(clock), clock)
    handshake >> LegLost(clock.now, UPSTREAM) << ABANDONED


def test_nothing_said_and_no_answer_ever_ends_at_the_deadline_and_a_late_101_departs(handshake, clock):
    loses(handshake.upgrading(clock), clock)
    handshake >> TimerFired(clock.ms(DEADLINE_MS)) << ABANDONED
    handshake >> UpstreamAccepted(clock.ms(20_000)) << DepartUpstream(None)


def test_nothing_said_in_a_stage_of_the_upstream_departs(handshake, clock):
    loses(handshake.validating(clock), clock) << DepartUpstream(None)
    handshake << Ends(outcome=Outcome.ABANDONED, status=None)
    assert handshake.stages(UPSTREAM)[-1] == ("validation", "pong", "failed")
    assert handshake.states() == ("idle", "departing")


def test_nothing_said_after_its_101_departs(handshake, clock):
    loses(handshake.client_validating(clock), clock) << DepartUpstream(None)
    handshake << Ends(outcome=Outcome.ABANDONED, status=101)
    assert handshake.stages(CLIENT)[-1] == ("validation", "pong", "failed")


def test_nothing_but_our_pong_said_is_nothing_said(handshake, clock):
    handshake.client_validating(clock) >> said(clock, CLIENT, PONGS[CLIENT])
    loses(handshake, clock) << DepartUpstream(None) << ABANDONED


def test_a_client_lost_while_its_101_is_written_starts_no_stages(handshake, clock):
    loses(handshake.accepting(clock), clock) << DepartUpstream(None) << ABANDONED
    handshake >> ClientAccepted(clock.now)
    assert handshake.core.feed(TimerFired(clock.ms(60))) == []


@pytest.mark.parametrize(("close", "width_ms"), [(None, 25.0), (1000, 1.0)])
def test_a_client_that_vanishes_widens_the_clients_window_and_one_that_closes_does_not(
    script, clock, close, width_ms
):
    plan = handshake_plan()
    windows = learned_windows(plan)
    handshake = script(plan, windows=windows).client_validating(clock)
    assert windows[CLIENT].width_ms(clock.now) == 1.0
    handshake.core.feed(LegLost(clock.now, CLIENT) if close is None else closed(clock, CLIENT, close))
    assert windows[CLIENT].width_ms(clock.now) == width_ms


# -- it said goodbye ----------------------------------------------------------------------------------------


def test_its_close_after_its_101_is_answered_at_once_with_its_own_code(handshake, clock):
    handshake.client_validating(clock) >> closed(clock, CLIENT, 4000, "bye")
    handshake << CloseClient(4000, "bye") << DepartUpstream(4000, "bye")
    handshake << Ends(outcome=Outcome.ABANDONED, status=101, close_code=None)
    handshake >> LegLost(clock.now, CLIENT)


def test_its_close_before_its_101_is_answered_behind_it(handshake, clock):
    handshake.validating(clock) >> closed(clock, CLIENT, 1000)
    handshake << AcceptClient() << DepartUpstream(1000) << Ends(outcome=Outcome.ABANDONED, status=101)
    handshake >> ClientAccepted(clock.now) << CloseClient(1000)


def test_its_close_before_the_request_is_out_cancels_the_dial_and_is_answered_over_http(handshake, clock):
    handshake.requested(clock) >> closed(clock, CLIENT, 1000) << DropUpstream()
    handshake << RefuseClient("the client left") << Ends(outcome=Outcome.ABANDONED, status=503)


def test_its_close_while_the_upgrade_is_out_waits_for_the_101(handshake, clock):
    handshake.upgrading(clock) >> closed(clock, CLIENT, 1000)
    handshake >> UpstreamAccepted(clock.now) << AcceptClient() << DepartUpstream(1000) << ABANDONED
    handshake >> ClientAccepted(clock.now) << CloseClient(1000)


def test_its_close_while_the_upgrade_is_out_may_end_as_a_rejection(handshake, clock):
    handshake.upgrading(clock) >> closed(clock, CLIENT, 1000)
    handshake >> UpstreamRejected(clock.now, 503) << MirrorResponse() << Ends(status=503)


def test_its_close_while_its_101_is_written_is_answered_once(handshake, clock):
    handshake.accepting(clock) >> closed(clock, CLIENT, 1000)
    handshake << DepartUpstream(1000) << ABANDONED
    handshake >> ClientAccepted(clock.now) << CloseClient(1000)


def test_its_close_and_its_end_while_its_101_is_written_leave_nobody_to_answer(handshake, clock):
    handshake.accepting(clock) >> closed(clock, CLIENT, 1000)
    handshake << DepartUpstream(1000) << ABANDONED
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> ClientAccepted(clock.now)


def test_a_client_that_was_closed_while_its_101_was_written_is_not_closed_again(handshake, clock):
    handshake.accepting(clock) >> DrainStarted(clock.now)
    handshake << DepartUpstream(1001) << CloseClient(1012, "the gate is stopping") << Ends(close_code=1012)
    handshake >> closed(clock, CLIENT, 1012)
    handshake >> ClientAccepted(clock.now)


def test_its_close_and_its_end_in_one_go_are_one_leaving(handshake, clock):
    handshake.client_validating(clock) >> closed(clock, CLIENT, 1001)
    handshake << CloseClient(1001) << DepartUpstream(1001) << ABANDONED
    handshake >> LegLost(clock.now, CLIENT)
    assert [outcome for _, _, outcome in handshake.stages(CLIENT)].count("failed") == 1


# -- it said something: delivered, then departs -------------------------------------------------------------


@pytest.mark.parametrize("close", [None, 1000])
def test_what_it_said_while_the_upstream_is_dialled_is_delivered(handshake, clock, close):
    handshake.requested(clock) >> said(clock, CLIENT, HELLO)
    leave(handshake, clock, close)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM)
    departs(handshake, clock, close, accepted=False)


@pytest.mark.parametrize("close", [None, 1000])
def test_what_it_said_while_the_upgrade_is_out_is_delivered(handshake, clock, close):
    handshake.upgrading(clock) >> said(clock, CLIENT, HELLO)
    leave(handshake, clock, close)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM)
    departs(handshake, clock, close, accepted=False)


@pytest.mark.parametrize("close", [None, 1000])
def test_what_it_said_in_a_stage_of_the_upstream_is_delivered_when_that_is_ready(handshake, clock, close):
    handshake.validating(clock) >> said(clock, CLIENT, HELLO)
    leave(handshake, clock, close)
    handshake.proved(clock, UPSTREAM)
    departs(handshake, clock, close, accepted=False)


@pytest.mark.parametrize("close", [None, 1000])
def test_what_it_said_after_its_101_is_delivered_at_once(handshake, clock, close):
    handshake.client_validating(clock) >> said(clock, CLIENT, HELLO)
    if close is None:
        handshake >> LegLost(clock.now, CLIENT)
    else:
        handshake >> closed(clock, CLIENT, close) << CloseClient(close)
    departs(handshake, clock, close, accepted=True)


def test_a_message_and_the_close_in_one_chunk_are_both_understood(handshake, clock):
    both = HELLO + closed(clock, CLIENT, 1000).data
    handshake.client_validating(clock) >> said(clock, CLIENT, both) << CloseClient(1000)
    departs(handshake, clock, 1000, accepted=True)


def leave(handshake, clock, close):
    """The client leaves before its 101, with a Close or without."""
    handshake >> (LegLost(clock.now, CLIENT) if close is None else closed(clock, CLIENT, close))


def departs(handshake, clock, close, *, accepted):
    """What it said is handed over, and the upstream departs."""
    if close is not None and not accepted:
        handshake << AcceptClient()
    (
        handshake
        << DepartUpstream(close)
        << Ends(outcome=Outcome.ABANDONED, early_client=EarlyCount(1, len(HELLO)), close_code=None)
    )
    assert handshake.core.early(CLIENT).take() == HELLO
    if close is not None and not accepted:
        handshake >> ClientAccepted(clock.now) << CloseClient(close)


def test_what_it_said_survives_redials(script, clock):
    handshake = script(bare_plan()).requested(clock)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamRejected(clock.now, 503) << Dial(3, 50.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take_whole() == HELLO


def test_a_frame_cut_off_by_its_loss_is_not_delivered_but_the_ones_before_it_are(handshake, clock):
    handshake.client_validating(clock) >> said(clock, CLIENT, HELLO + HELLO[:4])
    loses(handshake, clock) << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take_whole() == HELLO


def test_a_message_that_is_too_big_costs_those_before_it_nothing(script, clock):
    handshake = script(bare_plan(message_bytes=125)).upgrading(clock)
    handshake >> said(clock, CLIENT, HELLO + frame(TEXT, bytes(200), mask=KEY)[:150])
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> UpstreamAccepted(clock.now) << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take_whole() == HELLO


def test_when_tries_run_out_for_a_client_that_is_gone_nobody_is_answered(script, clock):
    handshake = script(handshake_plan(redial=RedialPlan(tries=1))).upgrading(clock)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> UpstreamRejected(clock.now, 503) << Ends(outcome=Outcome.ABANDONED, status=None)


def test_an_upstream_that_announces_nothing_still_gets_it_at_the_deadline(script, clock):
    handshake = script(announced_plan()).upgrading(clock)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> UpstreamAccepted(clock.now)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> TimerFired(clock.ms(DEADLINE_MS)) << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take() == HELLO, "nobody is left who could say it again"


def test_an_upstream_that_answers_with_a_close_after_the_client_left_still_gets_it(handshake, clock):
    handshake.validating(clock) >> said(clock, CLIENT, HELLO)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> closed(clock, UPSTREAM, 1008) << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take() == HELLO


def test_an_upstream_that_closed_and_is_gone_is_let_go_of_not_departed_from(handshake, clock):
    handshake.validating(clock) >> closed(clock, UPSTREAM, 1008) << AcceptClient()
    handshake >> LegLost(clock.now, UPSTREAM)
    handshake >> LegLost(clock.now, CLIENT) << DropUpstream() << ABANDONED
    assert handshake.states() == ("idle", "closed")


@pytest.mark.parametrize("end", ["deadline", "drain"])
def test_an_upstream_that_closed_and_is_gone_is_let_go_of_at_the_end(handshake, clock, end):
    handshake.validating(clock) >> closed(clock, UPSTREAM, 1008) << AcceptClient()
    handshake >> LegLost(clock.now, UPSTREAM)
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> (TimerFired(clock.ms(DEADLINE_MS)) if end == "deadline" else DrainStarted(clock.now))
    code, reason = {
        "deadline": (1013, "the backend was not ready in time"),
        "drain": (1012, "the gate is stopping"),
    }[end]
    handshake << DropUpstream() << CloseClient(code, reason) << Ends(status=101)
    assert handshake.states()[1] == "closed"


def test_an_upstream_that_fell_before_the_client_left_is_not_dialled_for_nothing(handshake, clock):
    handshake.client_validating(clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    loses(handshake, clock) << DropUpstream() << Ends(outcome=Outcome.ABANDONED, redials=("lost",))


def test_what_the_upstream_says_to_a_client_that_left_changes_nothing(handshake, clock):
    loses(handshake.validating(clock), clock) << DepartUpstream(None) << ABANDONED
    handshake >> said(clock, UPSTREAM, WELCOME)
    handshake >> LegLost(clock.now, UPSTREAM)
    assert handshake.states() == ("idle", "closed")


# -- eager: it has its 101 from the start -------------------------------------------------------------------


def eager(script, clock, **changes):
    """An eager session whose 101 is being written and whose upstream is being dialled."""
    plan = handshake_plan(accept=Accept.EAGER, **changes)
    return script(plan) >> UpgradeRequested(clock.now) << AcceptClient() << Dial(1)


def test_eager_a_client_lost_while_its_101_is_written_is_served_without_stages_of_its_own(script, clock):
    handshake = eager(script, clock) >> said(clock, CLIENT, HELLO)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> ClientAccepted(clock.now)
    assert handshake.armed_ms == DEADLINE_MS, "a clock that nobody looks at would spin"
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM) << DepartUpstream(None) << ABANDONED


def test_eager_a_close_while_its_101_is_written_is_answered_once_behind_it(script, clock):
    handshake = eager(script, clock) >> said(clock, CLIENT, HELLO)
    handshake >> closed(clock, CLIENT, 1000)
    handshake >> ClientAccepted(clock.now) << CloseClient(1000)


def test_eager_its_close_is_answered_at_once_and_what_it_said_delivered_later(script, clock):
    handshake = eager(script, clock) >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> closed(clock, CLIENT, 1000) << CloseClient(1000)
    handshake >> LegLost(clock.now, CLIENT)
    assert handshake.armed_ms == DEADLINE_MS
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM) << DepartUpstream(1000) << ABANDONED
    assert handshake.core.early(CLIENT).take() == HELLO
    assert [outcome for _, _, outcome in handshake.stages(CLIENT)].count("failed") == 1


def test_eager_a_client_that_left_hears_nothing_of_an_upstream_that_negotiates_otherwise(script, clock):
    handshake = eager(script, clock) >> said(clock, CLIENT, HELLO)
    handshake >> LegLost(clock.now, CLIENT)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now, "surprise") << DepartUpstream(None) << ABANDONED
    assert handshake.core.early(CLIENT).take() == b"", "it was said in another subprotocol"


def test_eager_nothing_said_and_the_request_not_out_cancels_the_dial(script, clock):
    handshake = eager(script, clock) >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    loses(handshake, clock) << DropUpstream() << Ends(outcome=Outcome.ABANDONED, status=101)


def test_eager_an_upstream_that_comes_after_the_deadline_hears_only_what_was_said_in_its_subprotocol(
    script, clock
):
    for subprotocol, hears in ((None, HELLO), ("chat", b"")):
        handshake = script(bare_plan(accept=Accept.EAGER)) >> UpgradeRequested(clock.now)
        handshake << AcceptClient() << Dial(1)
        handshake >> ClientAccepted(clock.now) >> UpstreamConnected(clock.now)
        handshake >> said(clock, CLIENT, HELLO) >> LegLost(clock.now, CLIENT)
        handshake >> TimerFired(clock.now + DEADLINE_MS) << Ends(outcome=Outcome.ABANDONED)
        handshake >> UpstreamAccepted(clock.now + DEADLINE_MS, subprotocol) << DepartUpstream(None)
        assert handshake.core.early(CLIENT).take_whole() == hears


def test_the_gate_never_opens_for_a_client_that_left(script, clock):
    plan = bare_plan()
    slow = leg_plan(propagation=StagePlan(Evidence.FIXED, 50.0))
    handshake = script(replace(plan, client=slow)).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.now)
    handshake >> said(clock, CLIENT, HELLO)
    loses(handshake, clock) << DepartUpstream(None) << ABANDONED
    assert OpenGate() not in handshake.core.feed(TimerFired(clock.ms(50)))
