"""A mirrored handshake from the upgrade request to the open gate, and every way in which it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.commands import (
    AcceptClient,
    ArmTimer,
    CloseClient,
    DepartUpstream,
    Dial,
    DropUpstream,
    MirrorResponse,
    OpenGate,
    PauseReading,
    PollAcked,
    RefuseClient,
    SendPing,
)
from proxy.core.events import (
    BytesAcked,
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
from proxy.core.frames import PING, PONG, TEXT, close_frame, frame, parse_close
from proxy.core.handshake import learned_windows
from proxy.core.leg import IllegalTransition
from proxy.core.plan import Evidence, JsonMatch, OnExpiry, StagePlan, WindowPlan
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

NOT_READY = RefuseClient("the backend was not ready in time")


# -- the way to the open gate -------------------------------------------------------------------------------


def test_both_legs_prove_ready_and_the_gate_opens(handshake, clock):
    handshake >> UpgradeRequested(clock.ms(0)) << Dial(1) << ArmTimer(DEADLINE_MS)
    handshake >> UpstreamConnected(clock.ms(1))
    handshake >> UpstreamAccepted(clock.ms(2)) << SendPing(UPSTREAM, NONCE) << ArmTimer(77)
    handshake >> said(clock, UPSTREAM, PONGS[UPSTREAM]) << ArmTimer(27)
    handshake >> TimerFired(clock.ms(27)) << AcceptClient() << ArmTimer(DEADLINE_MS)
    handshake >> ClientAccepted(clock.ms(28)) << PollAcked(CLIENT) << ArmTimer(29)
    handshake >> BytesAcked(clock.ms(28.5), CLIENT) << SendPing(CLIENT, NONCE) << ArmTimer(103.5)
    handshake >> said(clock, CLIENT, PONGS[CLIENT]) << ArmTimer(29.5)
    (
        handshake
        >> TimerFired(clock.ms(29.5))
        << OpenGate()
        << Ends(outcome=Outcome.READY, status=101, redials=())
    )
    assert handshake.states() == ("open", "open")
    assert handshake.stages(UPSTREAM) == [
        ("propagation", "acked", "proved"),
        ("validation", "pong", "proved"),
        ("stabilization", "quiet", "proved"),
    ]
    assert handshake.stages(CLIENT) == handshake.stages(UPSTREAM)


def test_on_a_trusted_route_the_gate_opens_after_the_least_time(script, clock):
    plan = handshake_plan(client=leg_plan(stabilization=WindowPlan(0.0, 25.0)))
    windows = learned_windows(plan)
    for window in windows.values():
        for _ in range(20):
            window.survived()
    handshake = script(plan, windows=windows).validating(clock)
    handshake >> said(clock, UPSTREAM, PONGS[UPSTREAM]) << ArmTimer(1)
    handshake >> TimerFired(clock.ms(1)) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO) << ArmTimer(clock.now)
    handshake >> TimerFired(clock.now) << OpenGate() << Ends(outcome=Outcome.READY)


def test_a_client_that_speaks_first_does_not_wait_for_its_own_pong(script, clock):
    bare = bare_plan()
    handshake = script(replace(bare, client=leg_plan(stabilization=bare.client.stabilization)))
    handshake.upgrading(clock) >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.ms(1)) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO) << OpenGate() << Ends(outcome=Outcome.READY)
    assert handshake.stages(CLIENT)[:2] == [
        ("propagation", "frame", "proved"),
        ("validation", "frame", "proved"),
    ]


def test_what_a_client_says_before_its_101_is_held_and_proves_nothing(handshake, clock):
    handshake.requested(clock) >> said(clock, CLIENT, HELLO)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> BytesAcked(clock.now, CLIENT) << SendPing(CLIENT, NONCE)
    handshake.proved(clock, CLIENT) << OpenGate() << Ends(early_client=EarlyCount(1, len(HELLO)))
    assert handshake.core.early(CLIENT).take() == HELLO


def test_early_bytes_of_both_legs_are_handed_over_in_order_without_our_own_pongs(handshake, clock):
    ping, torso = frame(PING, b"theirs"), WELCOME[:3]
    handshake.validating(clock) >> said(clock, UPSTREAM, WELCOME + PONGS[UPSTREAM][:5])
    handshake >> said(clock, UPSTREAM, PONGS[UPSTREAM][5:] + ping)
    handshake >> TimerFired(clock.ms(25)) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> said(clock, UPSTREAM, torso)
    (
        handshake
        >> TimerFired(clock.ms(50))
        << OpenGate()
        << Ends(
            early_client=EarlyCount(1, len(HELLO)), early_upstream=EarlyCount(1, len(WELCOME + ping + torso))
        )
    )
    assert handshake.core.early(CLIENT).take() == HELLO
    assert handshake.core.early(UPSTREAM).take() == WELCOME + ping + torso
    assert not handshake.core.walker(UPSTREAM).at_boundary


def test_a_pong_that_comes_after_the_gate_opened_is_still_cut_out(handshake, clock):
    handshake.validating(clock) >> TimerFired(clock.ms(75))
    handshake >> TimerFired(clock.ms(100)) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> TimerFired(clock.ms(150)) << SendPing(CLIENT, NONCE)
    handshake >> TimerFired(clock.ms(225))
    handshake >> TimerFired(clock.ms(250)) << OpenGate() << Ends(outcome=Outcome.READY_UNPROVEN)
    for role, word in ((CLIENT, HELLO), (UPSTREAM, WELCOME)):
        walker = handshake.core.walker(role)
        assert walker.feed(word + PONGS[role] + word) == word + word
        own_again = walker.feed(PONGS[role])
        assert own_again == PONGS[role], "a second one is the peer's own doing"


def test_after_the_gate_opened_a_close_of_the_client_is_kept_back_for_the_edge_to_answer(script, clock):
    handshake = script(bare_plan()).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << OpenGate() << Ends(outcome=Outcome.READY)
    close = closed(clock, CLIENT, 1000).data
    assert handshake.core.walker(CLIENT).feed(close) == b""
    (notice,) = handshake.core.walker(CLIENT).notices
    assert parse_close(notice.payload) == (1000, "")


def test_a_peer_that_never_answers_pings_is_served_and_called_unproven(handshake, clock):
    handshake.client_validating(clock) >> TimerFired(clock.ms(100))
    handshake >> TimerFired(clock.ms(125)) << OpenGate() << Ends(outcome=Outcome.READY_UNPROVEN)
    assert handshake.stages(CLIENT)[1] == ("validation", "pong", "expired")


def test_a_backend_that_announces_itself_is_waited_for_and_its_announcement_is_kept(script, clock):
    plan = bare_plan()
    announced = replace(
        plan.upstream,
        announcement=StagePlan(Evidence.MESSAGE, 2000.0),
        match=JsonMatch(("type",), "connection_established"),
    )
    handshake = script(replace(plan, upstream=announced)).upgrading(clock)
    ready = frame(TEXT, b'{"type": "connection_established"}')
    handshake >> UpstreamAccepted(clock.now) << ArmTimer(2000)
    handshake >> said(clock, UPSTREAM, WELCOME)
    handshake >> said(clock, UPSTREAM, ready[:10])
    handshake >> said(clock, UPSTREAM, ready[10:]) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << OpenGate() << Ends(outcome=Outcome.READY)
    assert handshake.core.early(UPSTREAM).take() == WELCOME + ready
    assert handshake.stages(UPSTREAM)[-1] == ("announcement", "message", "proved")
    assert handshake.core.walker(UPSTREAM).tap is None


def test_at_the_watermark_that_leg_is_no_longer_read_and_nothing_is_dropped(script, clock):
    plan = handshake_plan(client=leg_plan(early_bytes=2 * len(HELLO)))
    handshake = script(plan).requested(clock)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> said(clock, CLIENT, HELLO) << PauseReading(CLIENT)
    handshake >> said(clock, CLIENT, HELLO) << PauseReading(CLIENT)
    assert handshake.core.early(CLIENT).take() == HELLO * 3


def test_a_new_try_at_the_upstream_has_the_whole_watermark_again(script, clock):
    handshake = script(handshake_plan(upstream=leg_plan(early_bytes=2 * len(WELCOME)))).validating(clock)
    handshake >> said(clock, UPSTREAM, WELCOME)
    handshake >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    handshake >> said(clock, UPSTREAM, WELCOME)
    handshake >> said(clock, UPSTREAM, WELCOME) << PauseReading(UPSTREAM)


# -- rejections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 426, 429])
def test_a_rejection_is_mirrored_as_it_was(handshake, clock, status):
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, status)
    handshake << MirrorResponse() << Ends(outcome=Outcome.REJECTED, status=status, redials=(), stages=())
    assert handshake.states() == ("idle", "closed")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_retryable_status_and_then_success_is_invisible_to_the_client(script, clock, status):
    handshake = script(bare_plan()).upgrading(clock)
    handshake >> UpstreamRejected(clock.now, status) << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.ms(25))
    handshake >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << OpenGate()
    handshake << Ends(outcome=Outcome.READY, status=101, redials=(f"status_{status}",))


def test_when_tries_run_out_the_last_response_is_mirrored(handshake, clock):
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, 500) << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamRejected(clock.now, 503) << Dial(3, 50.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamRejected(clock.now, 502) << MirrorResponse()
    handshake << Ends(outcome=Outcome.REJECTED, status=502, redials=("status_500", "status_503"))


def test_a_response_that_we_do_not_hold_whole_cannot_be_tried_again(handshake, clock):
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, 503, held=False)
    handshake << MirrorResponse() << Ends(outcome=Outcome.REJECTED, status=503)


def test_a_refused_connection_never_runs_out_of_tries_before_the_deadline(handshake, clock):
    handshake.requested(clock)
    attempt = 1
    while clock.now < DEADLINE_MS - 1000:
        delay = min(25.0 * 2 ** (attempt - 1), 1000.0)
        attempt += 1
        handshake >> UpstreamUnreachable(clock.now, "refused") << Dial(attempt, delay)
        clock.ms(clock.now + delay)
    handshake >> TimerFired(clock.ms(DEADLINE_MS)) << DropUpstream() << NOT_READY
    handshake << Ends(outcome=Outcome.TIMEOUT, status=503, redials=("refused",) * (attempt - 1))
    assert attempt > 10


def test_refused_and_then_up_is_invisible_to_the_client(script, clock):
    handshake = script(bare_plan()).requested(clock)
    handshake >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    handshake >> UpstreamUnreachable(clock.ms(25), "timeout") << Dial(3, 50.0)
    handshake >> UpstreamConnected(clock.ms(75))
    handshake >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << OpenGate() << Ends(redials=("refused", "timeout"))
    assert handshake.core.redials == 2


# -- the deadline and the drain, in each state --------------------------------------------------------------


def give_up_events(clock):
    return {
        "deadline": (TimerFired(clock.ms(DEADLINE_MS)), NOT_READY.reason, 1013, Outcome.TIMEOUT),
        "drain": (DrainStarted(clock.now), "the gate is stopping", 1012, Outcome.FAILED),
    }


@pytest.fixture(params=["deadline", "drain"])
def end(request, clock):
    """Feed the event that ends every handshake; return the reason, the close code and the outcome."""

    def feed(handshake):
        event, reason, code, outcome = give_up_events(clock)[request.param]
        handshake >> event
        return reason, code, outcome

    return feed


def test_it_ends_while_the_upstream_is_dialled(handshake, clock, end):
    reason, _, outcome = end(handshake.requested(clock))
    handshake << DropUpstream() << RefuseClient(reason) << Ends(outcome=outcome, status=503)
    assert handshake.states() == ("idle", "closed")


def test_it_ends_while_the_next_try_is_waited_for(handshake, clock, end):
    handshake.requested(clock) >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    reason, _, outcome = end(handshake)
    handshake << DropUpstream() << RefuseClient(reason) << Ends(outcome=outcome, redials=("refused",))


def test_it_ends_while_the_upgrade_is_out_and_the_late_upstream_departs_with_nothing_delivered(
    handshake, clock, end
):
    handshake.upgrading(clock) >> said(clock, CLIENT, HELLO)
    reason, _, outcome = end(handshake)
    (
        handshake
        << RefuseClient(reason)
        << Ends(outcome=outcome, status=503, early_client=EarlyCount(1, len(HELLO)))
    )
    assert handshake.states() == ("idle", "upgrading")
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> UpstreamAccepted(clock.now) << DepartUpstream(1001)
    assert handshake.states() == ("idle", "departing")
    assert handshake.core.early(CLIENT).take() == b"", "the client was told 503"


@pytest.mark.parametrize("late", ["rejected", "lost"])
def test_it_ends_while_the_upgrade_is_out_and_the_late_upstream_fails(handshake, clock, end, late):
    end(handshake.upgrading(clock))
    handshake << RefuseClient(handshake_reason(handshake)) << Ends(status=503)
    handshake >> (UpstreamRejected(clock.now, 503) if late == "rejected" else LegLost(clock.now, UPSTREAM))
    assert handshake.states() == ("idle", "closed")


def handshake_reason(handshake):
    """The reason that the script's next command gives."""
    return handshake._left[0].reason


@pytest.mark.parametrize("stage", ["propagation", "validation", "stabilization", "announcement"])
def test_it_ends_in_a_stage_of_the_upstream_which_departs_with_nothing_delivered(script, clock, end, stage):
    plan = handshake_plan(
        upstream=leg_plan(
            propagation=StagePlan(Evidence.FIXED, 90_000.0 if stage == "propagation" else 0.0),
            validation=StagePlan(Evidence.FRAME, 90_000.0 if stage == "validation" else 0.0),
            stabilization=StagePlan(Evidence.FIXED, 90_000.0 if stage == "stabilization" else 0.0),
            announcement=StagePlan(Evidence.MESSAGE, 90_000.0),
        )
    )
    handshake = script(plan).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now)
    assert handshake.states()[1] == stage
    handshake >> said(clock, CLIENT, HELLO)
    reason, _, outcome = end(handshake)
    handshake << DepartUpstream(1001) << RefuseClient(reason)
    handshake << Ends(outcome=outcome, status=503, early_client=EarlyCount(1, len(HELLO)))
    assert handshake.stages(UPSTREAM)[-1][::2] == (stage, "failed")
    assert handshake.core.early(CLIENT).take() == b""


def test_what_a_client_says_after_it_was_told_of_a_failure_is_not_held(script, clock):
    handshake = script(handshake_plan(client=leg_plan(early_bytes=8))).upgrading(clock)
    handshake >> DrainStarted(clock.now) << RefuseClient("the gate is stopping") << Ends(status=503)
    handshake >> said(clock, CLIENT, HELLO)
    assert handshake.core.early(CLIENT).size == 0


def test_it_ends_while_the_101_is_being_written(handshake, clock, end):
    reason, code, outcome = end(handshake.accepting(clock))
    handshake << DepartUpstream(1001) << CloseClient(code, reason)
    handshake << Ends(outcome=outcome, status=101, close_code=code)
    handshake >> ClientAccepted(clock.now)  # nothing more is said, and no stage begins


def test_it_ends_in_a_stage_of_the_client(handshake, clock, end):
    reason, code, outcome = end(handshake.client_validating(clock))
    handshake << DepartUpstream(1001) << CloseClient(code, reason)
    handshake << Ends(outcome=outcome, status=101, close_code=code)
    assert handshake.stages(CLIENT)[-1] == ("validation", "pong", "failed")


def test_at_the_deadline_the_last_response_is_mirrored_if_there_was_one(handshake, clock):
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, 502) << Dial(2, 25.0)
    handshake >> UpstreamUnreachable(clock.now, "refused") << Dial(3, 50.0)
    handshake >> TimerFired(clock.ms(DEADLINE_MS)) << DropUpstream() << MirrorResponse()
    handshake << Ends(outcome=Outcome.TIMEOUT, status=502)


def test_a_drain_answers_503_itself_even_if_there_was_a_response(handshake, clock):
    """Design, drain: "pending handshakes get 503 + `Retry-After`"."""
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, 500) << Dial(2, 25.0)
    handshake >> DrainStarted(clock.now) << DropUpstream() << RefuseClient("the gate is stopping")
    handshake << Ends(outcome=Outcome.FAILED, status=503)


def test_before_the_deadline_a_timer_ends_nothing(handshake, clock):
    handshake.requested(clock) >> TimerFired(clock.ms(DEADLINE_MS - 1)) << ArmTimer(DEADLINE_MS)


@pytest.mark.parametrize("event", [DrainStarted(99.0), TimerFired(99_999.0), LegLost(99.0, CLIENT)])
def test_when_it_is_over_neither_timer_nor_drain_nor_loss_changes_anything(script, clock, event):
    handshake = script(bare_plan()).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << OpenGate() << Ends(outcome=Outcome.READY)
    assert handshake.core.finished
    assert handshake.core.feed(event) == []


# -- stages that may not expire -----------------------------------------------------------------------------


def test_an_upstream_that_must_prove_and_does_not_is_redialled(script, clock):
    strict = leg_plan(validation=StagePlan(Evidence.PONG, 75.0, OnExpiry.FAIL))
    handshake = script(handshake_plan(upstream=strict)).validating(clock)
    handshake >> TimerFired(clock.ms(75)) << DropUpstream() << Dial(2, 25.0)
    assert handshake.core.redials == 1


def test_an_upstream_that_never_proves_ends_when_tries_run_out(script, clock):
    strict = leg_plan(validation=StagePlan(Evidence.PONG, 75.0, OnExpiry.FAIL))
    plan = handshake_plan(upstream=strict)
    handshake = script(replace(plan, redial=replace(plan.redial, tries=1))).validating(clock)
    handshake >> TimerFired(clock.ms(75)) << DropUpstream() << RefuseClient("the backend did not stay up")
    handshake << Ends(outcome=Outcome.FAILED, status=503, redials=())
    assert handshake.stages(UPSTREAM)[-1] == ("validation", "pong", "expired")


def test_a_client_that_must_prove_and_does_not_is_closed(script, clock):
    strict = leg_plan(validation=StagePlan(Evidence.PONG, 75.0, OnExpiry.FAIL))
    handshake = script(handshake_plan(client=strict)).client_validating(clock)
    handshake >> TimerFired(clock.ms(100)) << DepartUpstream(1001)
    (
        handshake
        << CloseClient(1013, "the client did not prove ready")
        << Ends(outcome=Outcome.FAILED, close_code=1013)
    )


# -- what the edge may ask, and what it may not do ----------------------------------------------------------


def test_it_says_when_a_leg_was_validated(handshake, clock):
    assert handshake.core.validated_ms(UPSTREAM) is None
    handshake.validating(clock) >> said(clock, UPSTREAM, PONGS[UPSTREAM])
    assert handshake.core.validated_ms(UPSTREAM) == 0.0
    assert handshake.core.validated_ms(CLIENT) is None


def test_the_loss_of_a_connection_that_was_dropped_is_not_taken_for_the_next_one(handshake, clock):
    handshake.validating(clock) >> closed(clock, UPSTREAM, 1011) << DropUpstream() << Dial(2, 25.0)
    handshake >> LegLost(clock.now, UPSTREAM)  # its end, a moment later
    assert handshake.states() == ("idle", "connecting")


def test_an_event_that_cannot_be_raises(handshake, clock):
    handshake.requested(clock)
    with pytest.raises(IllegalTransition, match="upstream leg: accepted while connecting"):
        handshake.core.feed(UpstreamAccepted(clock.now))


def test_an_own_pong_is_cut_even_if_it_is_the_first_thing_behind_a_torso(handshake, clock):
    start, rest = frame(TEXT, b"long" * 50, mask=KEY, fin=False), frame(PONG, b"theirs", mask=KEY)
    handshake.client_validating(clock) >> said(clock, CLIENT, start[:40])
    handshake >> said(clock, CLIENT, start[40:] + PONGS[CLIENT] + rest)
    assert handshake.core.early(CLIENT).take() == start + rest


def test_what_comes_with_the_101_is_held_before_a_gate_without_stages_opens(script, clock):
    handshake = script(bare_plan()).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now, tail=frame(TEXT, b"hello")) << AcceptClient()
    assert handshake.core.early(UPSTREAM).take() == frame(TEXT, b"hello")


def test_a_close_that_comes_with_the_101_fails_a_stage_that_began_then(script, clock):
    handshake = script(handshake_plan()).upgrading(clock)
    accepted = UpstreamAccepted(clock.ms(7), tail=close_frame(4401, "expired"))
    handshake >> accepted << AcceptClient()
    (record,) = handshake.core._sides[UPSTREAM].stages.records
    assert (record.started_ms, record.ended_ms) == (7, 7)
