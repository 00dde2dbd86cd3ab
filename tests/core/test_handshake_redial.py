"""An upstream that falls before the gate opens is dialled again; one that answers for itself is not."""

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
    LegLost,
    TimerFired,
    UpstreamAccepted,
    UpstreamConnected,
    UpstreamRejected,
    UpstreamUnreachable,
)
from proxy.core.frames import TEXT, close_frame, frame
from proxy.core.handshake import learned_windows
from proxy.core.plan import RedialPlan
from proxy.core.report import Outcome
from tests.core.script import (
    CLIENT,
    HELLO,
    NONCE,
    PONGS,
    UPSTREAM,
    WELCOME,
    Ends,
    bare_plan,
    closed,
    handshake_plan,
    said,
)

RETRYABLE = [1011, 1012, 1013, 1014]
OWN_ANSWER = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 3000, 4401]


def again(handshake, clock):
    """The next try reaches the upstream, which answers 101 and is pinged."""
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    return handshake


@pytest.mark.parametrize("code", RETRYABLE)
def test_a_retryable_close_in_a_stage_is_redialled(handshake, clock, code):
    handshake.validating(clock) >> closed(clock, UPSTREAM, code) << DropUpstream() << Dial(2, 25.0)
    again(handshake, clock).proved(clock, UPSTREAM) << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    assert handshake.core.redials == 1


def test_a_loss_without_close_is_redialled_in_every_stage(handshake, clock):
    handshake.upgrading(clock) >> LegLost(clock.now, UPSTREAM) << Dial(2, 25.0)
    again(handshake, clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(3, 50.0)
    again(handshake, clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream()
    (
        handshake
        << RefuseClient("the backend did not stay up")
        << Ends(outcome=Outcome.FAILED, status=503, redials=("lost", "lost"))
    )


def test_a_failed_attempts_bytes_are_dropped_with_it(handshake, clock):
    handshake.validating(clock) >> said(clock, UPSTREAM, frame(TEXT, b"from the first") + WELCOME[:3])
    handshake >> LegLost(clock.ms(2), UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    again(handshake, clock) >> said(clock, UPSTREAM, WELCOME)
    assert handshake.core.early(UPSTREAM).take() == WELCOME
    assert handshake.core.walker(UPSTREAM).at_boundary


def test_what_the_client_said_is_kept_over_redials(handshake, clock):
    handshake.requested(clock) >> said(clock, CLIENT, HELLO)
    handshake >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    again(handshake, clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(3, 50.0)
    assert handshake.core.early(CLIENT).take() == HELLO


def test_the_stages_of_every_try_are_reported(handshake, clock):
    handshake.validating(clock) >> LegLost(clock.ms(2), UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    again(handshake, clock) >> TimerFired(clock.ms(10_000)) << DepartUpstream(1001)
    handshake << RefuseClient("the backend was not ready in time") << Ends(outcome=Outcome.TIMEOUT)
    assert [(r.attempt, r.stage, r.outcome) for r in handshake.report.stages] == [
        (1, "propagation", "proved"),
        (1, "validation", "failed"),
        (2, "propagation", "proved"),
        (2, "validation", "failed"),
    ]


def test_the_stage_clock_of_a_dropped_try_is_not_armed_any_more(handshake, clock):
    handshake.validating(clock)
    assert handshake.armed_ms == 75.0
    handshake >> LegLost(clock.ms(2), UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    assert handshake.armed_ms == 10_000.0


def test_the_next_try_starts_its_stages_anew(handshake, clock):
    handshake.validating(clock) >> said(clock, UPSTREAM, PONGS[UPSTREAM])
    handshake >> LegLost(clock.ms(20), UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    clock.ms(45)
    again(handshake, clock)
    assert handshake.armed_ms == 120.0
    assert handshake.core.validated_ms(UPSTREAM) is None


def test_an_early_loss_widens_the_window_of_the_route_at_once(script, clock):
    plan = handshake_plan()
    windows = learned_windows(plan)
    for _ in range(20):
        windows[UPSTREAM].survived()
    handshake = script(plan, windows=windows).validating(clock)
    assert windows[UPSTREAM].width_ms(clock.now) == 1.0
    handshake >> LegLost(clock.ms(2), UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    assert windows[UPSTREAM].width_ms(clock.now) == 25.0


def test_an_upstream_that_falls_while_the_client_is_proving_is_redialled_and_stays_invisible(
    handshake, clock
):
    handshake.client_validating(clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake.proved(clock, CLIENT)
    (
        again(handshake, clock).proved(clock, UPSTREAM)
        << OpenGate()
        << Ends(outcome=Outcome.READY, redials=("lost",))
    )


@pytest.mark.parametrize(
    "second",
    [
        UpstreamAccepted(25.0, "other", "permessage-deflate"),
        UpstreamAccepted(25.0, "chat", None),
        UpstreamAccepted(25.0, None, "permessage-deflate"),
        UpstreamAccepted(25.0, "chat", "permessage-deflate; server_no_context_takeover"),
    ],
)
def test_once_the_client_has_its_101_a_redial_that_negotiates_otherwise_is_upstream_loss(
    script, clock, second
):
    handshake = script(bare_plan(), measurable=False).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now, "chat", "permessage-deflate") << AcceptClient("chat")
    handshake >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> UpstreamConnected(clock.ms(25))
    handshake >> second << DepartUpstream(1001) << CloseClient(1014, "the upstream negotiated otherwise")
    handshake << Ends(outcome=Outcome.FAILED, status=101, close_code=1014)
    assert handshake.core.early(CLIENT).take() == b""


def test_once_the_client_has_its_101_a_redial_that_negotiates_the_same_is_fine(script, clock):
    handshake = script(bare_plan()).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now, "chat", "permessage-deflate") << AcceptClient("chat")
    handshake >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake >> ClientAccepted(clock.now)
    handshake >> UpstreamConnected(clock.ms(25))
    handshake >> UpstreamAccepted(clock.now, "chat", "permessage-deflate") << OpenGate()
    handshake << Ends(outcome=Outcome.READY, redials=("lost",))


def test_before_the_client_has_its_101_each_try_may_negotiate_what_it_likes(script, clock):
    handshake = script(handshake_plan()).upgrading(clock)
    handshake >> UpstreamAccepted(clock.now, "chat") << SendPing(UPSTREAM, NONCE)
    handshake >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now, "other") << SendPing(UPSTREAM, NONCE)
    handshake.proved(clock, UPSTREAM) << AcceptClient("other")


def test_a_client_with_its_101_hears_a_close_when_the_redial_is_rejected(handshake, clock):
    handshake.client_validating(clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(2, 25.0)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamRejected(clock.now, 401) << CloseClient(1008, "upstream answered 401")
    handshake << Ends(outcome=Outcome.REJECTED, status=101, close_code=1008)


# -- the backend's own answer -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", OWN_ANSWER)
@pytest.mark.parametrize("words", [b"", frame(TEXT, b'{"error": "token expired"}')])
def test_any_other_close_opens_the_gate_for_what_was_said_and_is_passed_on(handshake, clock, code, words):
    answer = words + close_frame(code, "as it was")
    handshake.validating(clock) >> said(clock, UPSTREAM, answer) << AcceptClient()
    handshake >> LegLost(clock.now, UPSTREAM)
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO)
    normal = code in {1000, 1001}
    handshake >> TimerFired(clock.ms(25)) << OpenGate()
    handshake << Ends(outcome=Outcome.READY if normal else Outcome.REJECTED, status=101, redials=())
    assert handshake.core.early(UPSTREAM).take() == answer
    assert handshake.core.close(UPSTREAM) == (code, "as it was")
    assert handshake.stages(UPSTREAM)[-1] == ("validation", "pong", "failed")


def test_an_empty_close_is_an_answer_too(handshake, clock):
    handshake.validating(clock) >> closed(clock, UPSTREAM, 1005) << AcceptClient()
    assert handshake.core.close(UPSTREAM) == (1005, "")


def test_an_answer_while_the_client_is_proving_needs_no_second_101(handshake, clock):
    handshake.client_validating(clock) >> closed(clock, UPSTREAM, 4401)
    handshake.proved(clock, CLIENT) << OpenGate() << Ends(outcome=Outcome.REJECTED)


def test_a_close_split_over_chunks_is_judged_when_it_is_whole(handshake, clock):
    close = close_frame(1013, "warming up")
    handshake.validating(clock) >> said(clock, UPSTREAM, close[:3])
    handshake >> said(clock, UPSTREAM, close[3:]) << DropUpstream() << Dial(2, 25.0)


def test_a_message_the_close_and_the_end_in_one_go_are_one_answer(handshake, clock):
    handshake.validating(clock) >> said(clock, UPSTREAM, WELCOME + close_frame(1008)) << AcceptClient()
    handshake >> LegLost(clock.now, UPSTREAM)
    assert handshake.core.early(UPSTREAM).take() == WELCOME + close_frame(1008)


def test_when_tries_run_out_a_retryable_close_is_passed_on_as_the_answer(script, clock):
    handshake = script(handshake_plan(redial=RedialPlan(tries=1))).validating(clock)
    handshake >> closed(clock, UPSTREAM, 1013, "later") << AcceptClient()
    handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)
    handshake >> said(clock, CLIENT, HELLO)
    handshake >> TimerFired(clock.ms(25)) << OpenGate() << Ends(outcome=Outcome.REJECTED)


def test_when_a_loss_ends_the_tries_a_response_that_we_have_is_mirrored(handshake, clock):
    handshake.upgrading(clock) >> UpstreamRejected(clock.now, 500) << Dial(2, 25.0)
    again(handshake, clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << Dial(3, 50.0)
    again(handshake, clock) >> LegLost(clock.now, UPSTREAM) << DropUpstream() << MirrorResponse()
    handshake << Ends(outcome=Outcome.FAILED, status=500, redials=("status_500", "lost"))


def test_a_policy_may_say_that_a_loss_is_not_redialled(script, clock):
    plan = handshake_plan(redial=RedialPlan(close_codes=frozenset({1011})))
    handshake = script(plan).validating(clock)
    handshake >> LegLost(clock.now, UPSTREAM) << DropUpstream() << RefuseClient("the backend did not stay up")
    handshake << Ends(outcome=Outcome.FAILED, status=503, redials=())


def test_a_policy_may_say_that_nothing_is_redialled(script, clock):
    plan = replace(bare_plan(), redial=RedialPlan(tries=1))
    handshake = script(plan).upgrading(clock)
    handshake >> LegLost(clock.now, UPSTREAM) << RefuseClient("the backend did not stay up")
    handshake << Ends(outcome=Outcome.FAILED, status=503)
