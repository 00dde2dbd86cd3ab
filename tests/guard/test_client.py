"""Who the client is: only the hops that are trusted can say it is somebody else than the peer."""

from __future__ import annotations

import pytest

from proxy.guard import client_address

PEER = "10.0.0.1"


def asked(*lines: str, hops: int) -> str:
    headers = [(b"Host", b"a"), *((b"X-Forwarded-For", line.encode("latin-1")) for line in lines)]
    return client_address(headers, PEER, hops)


def test_without_trusted_hops_nothing_that_is_sent_makes_anybody_somebody_else():
    assert asked("203.0.113.9", hops=0) == PEER
    assert client_address([], "", 0) == ""


@pytest.mark.parametrize(
    ("hops", "client"),
    [(1, "198.51.100.2"), (2, "198.51.100.1"), (3, "203.0.113.9"), (4, "203.0.113.9"), (32, "203.0.113.9")],
)
def test_it_is_the_entry_that_the_outermost_trusted_hop_has_added(hops, client):
    assert asked("203.0.113.9, 198.51.100.1, 198.51.100.2", hops=hops) == client


def test_what_a_client_puts_before_the_trusted_entries_is_not_looked_at():
    assert asked("1.1.1.1, forged, 8.8.8.8, 203.0.113.9", hops=1) == "203.0.113.9"


@pytest.mark.parametrize(
    "lines",
    [
        ("203.0.113.9, 198.51.100.1", "198.51.100.2"),
        ("203.0.113.9", "198.51.100.1", "198.51.100.2"),
        ("", " 203.0.113.9 ,198.51.100.1", ",198.51.100.2,"),
    ],
)
def test_several_lines_are_one_list_in_their_order_and_empty_entries_do_not_count(lines):
    assert asked(*lines, hops=2) == "198.51.100.1"


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"X-FORWARDED-FOR", b"X-Forwarded-For"])
def test_the_fields_name_is_found_in_any_case(name):
    assert client_address([(name, b"203.0.113.9")], PEER, 1) == "203.0.113.9"


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        ("203.0.113.9:50123", "203.0.113.9"),
        ("[2001:db8::7]:50123", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
    ],
)
def test_an_address_is_told_in_one_spelling_and_without_its_port(entry, client):
    assert asked(entry, hops=1) == client


@pytest.mark.parametrize(
    "entry",
    [
        "unknown",
        "_hidden",
        "localhost",
        "",
        " , ",
        "203.0.113",
        "203.0.113.9.1",
        "é",
        "fe80::1%any text",
        "[",
    ],
)
def test_what_is_no_address_leaves_it_at_the_peer(entry):
    assert asked(entry, hops=1) == PEER
