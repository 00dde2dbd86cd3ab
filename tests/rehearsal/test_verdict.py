"""The judge of the rehearsal finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.chaos.accounts import Visit
from tests.rehearsal.clients import Absence, Account
from tests.rehearsal.front_end import Look
from tests.rehearsal.pair import Ended
from tests.rehearsal.verdict import Away, Roll, by_roll, peak, settle, times

FINE = Ended(
    gate_code=0, app_code=-15, took_s=5.0, gate_kb=1, hurried=0, gate_log=[], app_log={"tracebacks": 0}
)
ROLL = Roll("pair0", "pair4", held=500, signalled_s=100.0, ended=FINE)


def account(said: int, *acknowledged: int) -> Account:
    return Account("c1", said=said, acknowledged=set(acknowledged))


def book(*heard: int, identity: str = "c1") -> dict[str, list[Visit]]:
    return {identity: [Visit(heard=list(heard))]}


def absence(closed_s: float, back_s: float | None, code: int = 1012, pauses_s: float = 0.5) -> Absence:
    return Absence("c1", code, closed_s, pauses_s, back_s=back_s)


def look(in_service: str, **sessions: int) -> Look:
    return Look(1.0, sessions, frozenset(in_service))


def away(*absences: Absence) -> list[str]:
    return Away.of(ROLL, absences).wrong(spread_s=4.0, pause_s=1.0, slack_s=1.0)


def test_messages_that_two_pairs_recorded_between_them_are_in_order():
    messages = settle([account(3, 0, 1, 2)], [book(0, 1), book(2)])
    assert not messages.wrong()
    assert (messages.said, messages.acknowledged, messages.recorded, messages.twice) == (3, 3, 3, 0)


def test_an_acknowledged_message_that_is_in_no_record_is_lost():
    messages = settle([account(3, 0, 1, 2)], [book(0), book(2)])
    assert messages.lost == ["c1:1"]
    assert messages.wrong() == ["c1:1 was acknowledged, and nobody has it"]


def test_a_message_that_was_never_acknowledged_is_wrong_though_it_was_recorded():
    assert settle([account(2, 0)], [book(0, 1)]).wrong() == ["c1:1 was never acknowledged"]


def test_a_message_that_two_pairs_recorded_is_told_and_not_wrong():
    messages = settle([account(2, 0, 1)], [book(0, 1), book(1)])
    assert not messages.wrong()
    assert messages.twice == 1


@pytest.mark.parametrize(
    ("books", "what"),
    [
        ([book(0, 1)], "c1:1 was never said"),
        ([book(0), book(0, identity="c2")], "c2 is nobody's"),
        ([{"c1": [Visit(heard=[0], damaged=["'c:x'"])]}], "c1: damaged: 'c:x'"),
    ],
)
def test_a_record_that_no_client_accounts_for_is_wrong(books, what: str):
    assert settle([account(1, 0)], books).wrong() == [what]


def test_the_share_is_of_all_sessions_by_the_pairs_in_service():
    found = peak([look("abcd", a=500, b=500, c=500, d=500), look("abc", a=500, b=700, c=500, d=200)], 2000, 4)
    assert (found.pair, found.sessions, found.ratio) == ("b", 700, pytest.approx(700 / (2000 / 3)))


def test_a_pair_beside_the_others_makes_nobodys_share_smaller():
    assert peak([look("abcde", a=500, b=500, c=500, d=500, e=0)], 2000, 4).ratio == 1.0


def test_clients_on_their_way_back_make_nobodys_share_smaller():
    assert peak([look("ab", a=100, b=20)], 200, 2).ratio == 1.0


def test_a_roll_whose_clients_are_back_within_the_window_is_in_order():
    found = Away.of(ROLL, [absence(100.0, 100.8), absence(103.9, 104.6)])
    assert not found.wrong(spread_s=4.0, pause_s=1.0, slack_s=1.0)
    assert found.away.worst == pytest.approx(0.8)
    assert found.cost.worst == pytest.approx(0.3)
    assert found.back.worst == pytest.approx(4.6)
    assert found.fullest == 0.5


@pytest.mark.parametrize(
    ("one", "what"),
    [
        (absence(100.0, 101.0, code=1006), "1 clients got 1006, not 1012"),
        (absence(100.0, None), "1 clients were never served again"),
        (absence(100.5, 105.6), "a client was away for 5.10 s, more than 5 s"),
        (absence(103.0, 106.5), "a client was back 6.50 s after SIGTERM, more than 6 s"),
    ],
)
def test_a_client_that_was_let_go_or_served_otherwise_is_wrong(one: Absence, what: str):
    assert away(absence(100.0, 101.0), one) == [what]


def test_absences_belong_to_the_last_roll_that_had_begun():
    second = Roll("pair1", "pair5", held=500, signalled_s=110.0, ended=FINE)
    ends = [absence(at_s, at_s + 1) for at_s in (99.0, 100.0, 109.0, 110.5)]
    assert by_roll([ROLL, second], ends) == [ends[:1], ends[1:3], ends[3:]]


def test_an_end_that_is_not_clean_is_wrong():
    assert not FINE.wrong()
    bad = Ended(3, 1, 5.0, 1, 0, ["a traceback"], {"tracebacks": 2, "accept errors": 0})
    assert bad.wrong() == [
        "the gate ended with 3",
        "the application ended with 1",
        "the gate logged a traceback",
        "2 tracebacks in the application's log",
    ]


def test_times_are_ordered_and_none_are_zeros():
    assert (times([3.0, 1.0, 2.0]).p50, times([3.0, 1.0, 2.0]).worst) == (2.0, 3.0)
    assert times([]).worst == 0.0
