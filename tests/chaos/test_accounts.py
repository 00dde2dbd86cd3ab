"""The accounts find every way in which a message can go wrong, and nothing in those that are in order."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.backends import launch
from tests.backends.flaky import encode
from tests.chaos import clients, stand
from tests.chaos.accounts import LEFT, PLAIN_END, Account, judge, read_journal, settle
from tests.chaos.clients import Fleet

IN_ORDER = ["7.1 o 3-1", "7.1 s 0", "7.1 r 0", "7.1 k 0", "7.1 r 1", "7.1 s 1", "7.1 k 1", "7.1 e 1000"]
NOTHING_DONE = ["7.0 o 3-1", "7.0 s 0"]


def account(**facts) -> Account:
    """An account that is in order with `IN_ORDER`."""
    known = {"sent": 2, "acknowledged": 2, "heard": 2, "farewell": 2, "end": LEFT}
    return Account("3-1", **(known | facts))


def wrong(journal: list[str], **facts) -> str:
    return "; ".join(judge(account(**facts), read_journal(journal)["3-1"]))


def without(*lines: str) -> list[str]:
    return [line for line in IN_ORDER if line not in lines]


def test_an_account_in_order_has_nothing_wrong():
    assert not wrong(IN_ORDER)


def test_a_try_that_was_given_up_before_it_was_told_anything_is_in_order():
    assert not wrong(NOTHING_DONE + IN_ORDER)


def test_a_broken_connection_may_have_lost_the_end_of_everything():
    lost = without("7.1 r 1", "7.1 k 1", "7.1 e 1000")
    assert not wrong(lost, sent=5, acknowledged=1, heard=1, farewell=None, end="close 1014")


@pytest.mark.parametrize(
    ("journal", "facts", "said"),
    [
        ([*IN_ORDER, "7.1 r 1"], {"end": PLAIN_END}, "list of heard is out of order: 1 is followed by 1"),
        (without("7.1 r 0"), {"end": PLAIN_END}, "list of heard is out of order: it begins with 1"),
        ([*IN_ORDER, "7.1 r 3", "7.1 r 2"], {"sent": 9}, "1 is followed by 3"),
        ([*IN_ORDER, "7.1 r 2"], {"end": PLAIN_END}, "the backend heard 3, but the client sent 2"),
        (without("7.1 r 1"), {"end": PLAIN_END}, "the client saw acknowledged 2, but the journal has 1"),
        (without("7.1 s 1"), {"end": PLAIN_END}, "the client heard pushes 2, but the backend pushed 1"),
        (IN_ORDER, {"end": PLAIN_END, "heard": 1}, "acknowledged pushes 2, but the client heard 1"),
        (IN_ORDER, {"end": "HTTP 503"}, "told HTTP 503, and yet 2 messages were delivered"),
        (IN_ORDER, {"sent": 3}, "left properly, and lost messages"),
        ([*IN_ORDER, "7.1 s 2"], {}, "left properly, and lost pushes"),
        ([*NOTHING_DONE, "7.0 r 0", *IN_ORDER], {}, "a redialled try was told 1 messages"),
        ([*IN_ORDER, "7.1 x 'c:2:no'"], {}, "the backend heard something damaged: 'c:2:no'"),
        (IN_ORDER, {"trouble": ["the client heard 'a:9'"]}, "the client heard 'a:9'"),
        ([], {}, "the client saw acknowledged 2, but the journal has 0"),
    ],
)
def test_what_is_wrong_is_found(journal: list[str], facts: dict, said: str):
    assert said in wrong(journal, **facts)


def test_a_cut_frame_must_be_the_beginning_of_what_was_due():
    due = encode(0x81, b"a:2")
    facts = {"sent": 3, "farewell": None, "end": PLAIN_END}
    assert not wrong(IN_ORDER, rest=due[:3], **facts)
    assert "not the one that was due" in wrong(IN_ORDER, rest=due[:3] + encode(0x88, b"\x03\xf6"), **facts)


def test_nothing_may_follow_a_close():
    assert "3 bytes behind a Close" in wrong(IN_ORDER, rest=b"\x81\x03a", end="close 1014")


def test_a_visit_of_nobody_is_found():
    totals = settle([], read_journal(IN_ORDER))
    assert totals.wrong == [("3-1", "the backend knows it, no client does")]


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger whose clients talk fast: its port, what kills it and starts another, its journal."""
    for module, name, value in ((clients, "EVERY_S", 0.02), (clients, "SPREAD_S", 0.0)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("LEDGER_EVERY_S", "0.02")
    port, journal = launch.free_port(), tmp_path / "journal"
    running = [launch.ready(stand.ledger(port, journal))]

    def replace() -> None:
        running[-1].stop(signal.SIGKILL)
        running.append(stand.ledger(port, journal))

    yield port, replace, journal
    for backend in running:
        backend.stop()


def books(journal: Path) -> dict:
    with journal.open() as lines:
        return read_journal(lines)


def test_all_accounts_are_in_order_when_a_backend_is_killed_and_comes_back(run, ledger):
    port, replace, journal = ledger

    async def story() -> Fleet:
        fleet = Fleet("", ("127.0.0.1", port), 5, "seed", early=0)
        fleet.set_out()
        await until(lambda: all(client.account and client.account.heard > 20 for client in fleet.clients))
        replace()
        await until(lambda: len(fleet.accounts) > 5 and fleet.served == 5)
        assert not await fleet.leave()
        return fleet

    fleet = run(story())
    totals = settle(fleet.accounts.values(), books(journal))
    assert not totals.wrong
    assert totals.left == 5
    assert totals.acknowledged > 50
    assert totals.heard > 100


def test_a_server_that_loses_an_early_frame_is_found_out(run, ledger):
    port, _, journal = ledger

    async def story() -> Fleet:
        fleet = Fleet("", ("127.0.0.1", port), 1, "seed", early=1)
        fleet.set_out()
        await until(lambda: fleet.accounts and fleet.accounts["0-1"].heard > 5)
        fleet.clients[0]._wire.abort()
        fleet.leaving.set()
        await until(lambda: fleet.accounts["0-1"].end)
        return fleet

    fleet = run(story())
    totals = settle(fleet.accounts.values(), books(journal))
    assert ("0-1", "the backend's list of heard is out of order: it begins with 1") in totals.wrong


async def until(true) -> None:
    """Look again until it is so; the bound is the test's own."""
    while not true():
        await asyncio.sleep(0.01)
