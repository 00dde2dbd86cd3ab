"""Who may end how in a phase: every other end is told."""

from __future__ import annotations

from tests.chaos.accounts import GAVE_UP, PLAIN_END, Account
from tests.chaos.harm import IN_A_FRAME, LIVES, LOST, Harm
from tests.chaos.leftovers import Reading, left_over, left_over_or_swollen
from tests.chaos.logs import backend_errors, gate_errors

ENDS = {"1-1": LOST, "2-1": PLAIN_END, "3-1": GAVE_UP}


def judged(harm: Harm, **rest: bytes) -> list[str]:
    accounts = {who: Account(who, end=end, rest=rest.get(f"of_{who[0]}", b"")) for who, end in ENDS.items()}
    return harm.judge(accounts, set(accounts))


def test_an_end_that_was_not_meant_is_wrong():
    harm = Harm()
    harm.touch(["1-1"], LOST)
    harm.touch(["3-1"], LOST, GAVE_UP)
    assert judged(harm) == ["2-1: plain end, expected no end"]


def test_a_plain_end_is_another_one_inside_a_frame():
    harm = Harm()
    harm.touch(ENDS, LOST, GAVE_UP, IN_A_FRAME)
    assert judged(harm) == ["2-1: plain end, expected close 1014 or gave up or plain end in a frame"]
    assert not judged(harm, of_2=b"\x81")


def test_who_must_end_and_lives_on_is_wrong():
    harm = Harm()
    harm.touch(["8-1"], LOST)
    harm.touch(["9-1"], LOST, LIVES)
    assert harm.judge({}, set()) == ["8-1: lives on, expected close 1014"]
    assert harm.pending({"8-1", "9-1"}) == {"8-1"}


def test_in_a_storm_everything_may_end():
    assert not judged(Harm(wild=True))


def test_what_a_gate_keeps_is_told():
    before = Reading(sessions=0, descriptors=15, rss_kb=60_000, tasks=4)
    assert not left_over_or_swollen(before, Reading(0, 15, 68_000, 4))
    assert len(left_over(before, Reading(1, 16, 60_000, 5))) == 3
    assert len(left_over_or_swollen(before, Reading(0, 15, 70_000, 4))) == 1
    assert not left_over(Reading(0, 15, 60_000, None), Reading(0, 15, 60_000, None))


def test_logs_are_searched_for_what_must_not_be_there():
    fine = 'readygate listening on http://127.0.0.1:1 -> x\n{"severity":"WARNING","message":"ERROR"}\n\n'
    assert not gate_errors(fine)
    assert len(gate_errors(fine + '{"severity":"ERROR"}\nTraceback (most recent call last):\n')) == 2
    log = (
        "Traceback (most recent call last):\n    raise RuntimeError('WebSocket is not connected.')\n"
        'RuntimeError: WebSocket is not connected. Need to call "accept" first.\n'
    )
    assert backend_errors(log) == {"tracebacks": 1, "accept errors": 1}
