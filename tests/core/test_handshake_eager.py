"""Eager: the client has its 101 at once, both legs prove themselves meanwhile, a failure ends as a Close."""

from __future__ import annotations

import pytest

from proxy.core.commands import (
    AcceptClient,
    CloseClient,
    DepartUpstream,
    Dial,
    DropUpstream,
    OpenGate,
    PollAcked,
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
from proxy.core.plan import Accept, RedialPlan
from proxy.core.report import Outcome
from tests.core.script import (
    CLIENT,
    DEADLINE_MS,
    HELLO,
    NONCE,
    PONGS,
    UPSTREAM,
    Ends,
    bare_plan,
    closed,
    handshake_plan,
    said,
)


@pytest.fixture
def eager(script, clock):
    """An eager session whose client has its 101 and whose upstream is being dialled."""
    handshake = script(handshake_plan(accept=Accept.EAGER))
    handshake >> UpgradeRequested(clock.now) << AcceptClient() << Dial(1)
    return handshake >> ClientAccepted(clock.now) << PollAcked(CLIENT)


def test_the_legs_run_concurrently_and_the_gate_opens_when_both_are_ready(eager, clock):
    eager >> BytesAcked(clock.ms(1), CLIENT) << SendPing(CLIENT, NONCE)
    eager >> UpstreamConnected(clock.ms(2))
    eager >> said(clock, CLIENT, PONGS[CLIENT])
    eager >> UpstreamAccepted(clock.ms(3)) << SendPing(UPSTREAM, NONCE)
    eager >> said(clock, UPSTREAM, PONGS[UPSTREAM])
    eager >> TimerFired(clock.ms(27))
    eager >> TimerFired(clock.ms(28)) << OpenGate() << Ends(outcome=Outcome.READY, status=101)


def test_the_upstream_may_be_ready_first(eager, clock):
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    eager.proved(clock, UPSTREAM) << PollAcked(CLIENT)
    assert eager.states() == ("propagation", "ready")
    eager >> BytesAcked(clock.now, CLIENT) << SendPing(CLIENT, NONCE)
    eager.proved(clock, CLIENT) << OpenGate() << Ends(outcome=Outcome.READY)


@pytest.mark.parametrize(
    ("offered", "listed", "agreed"),
    [
        (("a", "b"), ("b", "a"), "a"),
        (("x", "b"), ("a", "b"), "b"),
        (("x",), ("a",), None),
        ((), ("a",), None),
        (("a",), (), None),
    ],
)
def test_the_first_offered_subprotocol_that_the_policy_lists_is_agreed_to(
    script, clock, offered, listed, agreed
):
    handshake = script(bare_plan(accept=Accept.EAGER, eager_subprotocols=listed))
    handshake >> UpgradeRequested(clock.now, offered) << AcceptClient(agreed) << Dial(1)
    handshake >> ClientAccepted(clock.now)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now, agreed) << OpenGate() << Ends(outcome=Outcome.READY)


@pytest.mark.parametrize("answer", [("other", None), (None, "permessage-deflate"), (None, None)])
def test_an_upstream_that_negotiates_otherwise_counts_as_lost(script, clock, answer):
    handshake = script(bare_plan(accept=Accept.EAGER, eager_subprotocols=("a",)))
    handshake >> UpgradeRequested(clock.now, ("a",)) << AcceptClient("a") << Dial(1)
    handshake >> ClientAccepted(clock.now)
    handshake >> UpstreamConnected(clock.now)
    handshake >> UpstreamAccepted(clock.now, *answer) << DepartUpstream(1001)
    handshake << CloseClient(1014, "the upstream negotiated otherwise") << Ends(outcome=Outcome.FAILED)


@pytest.mark.parametrize(
    ("status", "code"), [(401, 1008), (403, 1008), (404, 1008), (499, 1008), (501, 1013), (302, 1013)]
)
def test_a_rejection_ends_as_a_close_with_the_status_in_its_reason(eager, clock, status, code):
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamRejected(clock.now, status) << CloseClient(code, f"upstream answered {status}")
    eager << Ends(outcome=Outcome.REJECTED, status=101, close_code=code)


def test_a_retryable_status_is_redialled_and_ends_as_a_close_when_tries_run_out(eager, clock):
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamRejected(clock.now, 503) << Dial(2, 25.0)
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamRejected(clock.now, 503) << Dial(3, 50.0)
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamRejected(clock.now, 503) << CloseClient(1013, "upstream answered 503")
    eager << Ends(outcome=Outcome.REJECTED, redials=("status_503", "status_503"))


def test_a_backend_that_does_not_stay_up_ends_as_a_close(script, clock):
    plan = handshake_plan(accept=Accept.EAGER, redial=RedialPlan(tries=1))
    handshake = script(plan, measurable=False)
    handshake >> UpgradeRequested(clock.now) << AcceptClient() << Dial(1)
    handshake >> ClientAccepted(clock.now) << SendPing(CLIENT, NONCE)
    handshake >> UpstreamConnected(clock.now)
    handshake >> LegLost(clock.now, UPSTREAM) << CloseClient(1013, "the backend did not stay up")
    handshake << Ends(outcome=Outcome.FAILED, status=101, close_code=1013)


@pytest.mark.parametrize("state", ["connecting", "waiting", "upgrading", "proving"])
@pytest.mark.parametrize("end", ["deadline", "drain"])
def test_the_deadline_and_the_drain_end_it_as_a_close_and_deliver_nothing(eager, clock, state, end):
    eager >> said(clock, CLIENT, HELLO)
    if state == "waiting":
        eager >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    if state in {"upgrading", "proving"}:
        eager >> UpstreamConnected(clock.now)
    if state == "proving":
        eager >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    eager >> (TimerFired(clock.ms(DEADLINE_MS)) if end == "deadline" else DrainStarted(clock.now))
    if state == "proving":
        eager << DepartUpstream(1001)
    elif state != "upgrading":
        eager << DropUpstream()
    code, reason, outcome = {
        "deadline": (1013, "the backend was not ready in time", Outcome.TIMEOUT),
        "drain": (1012, "the gate is stopping", Outcome.FAILED),
    }[end]
    eager << CloseClient(code, reason) << Ends(outcome=outcome, status=101, close_code=code)
    if state == "upgrading":
        eager >> said(clock, CLIENT, HELLO)
        eager >> closed(clock, CLIENT, code)  # its answer to our Close
        eager >> UpstreamAccepted(clock.now) << DepartUpstream(1001)
    if state in {"upgrading", "proving"}:
        assert eager.core.early(CLIENT).take() == b""


def test_a_redial_meanwhile_is_invisible(eager, clock):
    eager >> BytesAcked(clock.now, CLIENT) << SendPing(CLIENT, NONCE)
    eager.proved(clock, CLIENT)
    eager >> UpstreamUnreachable(clock.now, "refused") << Dial(2, 25.0)
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    eager >> closed(clock, UPSTREAM, 1011) << DropUpstream() << Dial(3, 50.0)
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    eager.proved(clock, UPSTREAM) << OpenGate() << Ends(redials=("refused", "close_1011"))


def test_the_upstreams_own_close_is_passed_on(eager, clock):
    eager >> said(clock, CLIENT, HELLO)
    eager >> UpstreamConnected(clock.now)
    eager >> UpstreamAccepted(clock.now) << SendPing(UPSTREAM, NONCE)
    eager >> closed(clock, UPSTREAM, 4401, "who are you")
    eager >> TimerFired(clock.ms(25)) << OpenGate() << Ends(outcome=Outcome.REJECTED)
    assert eager.core.close(UPSTREAM) == (4401, "who are you")
