"""Who is turned away, in what order, with what answer; and how often that is said."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from proxy.guard import (
    Clients,
    Load,
    Quieter,
    head_bytes,
    limit_reached,
    most_sessions,
    raise_descriptor_limit,
)
from proxy.guard.limits import (
    EARLY_BYTES_TOTAL,
    HANDSHAKES_PENDING,
    HEADER_BYTES,
    SESSIONS,
    SESSIONS_PER_CLIENT,
)
from proxy.policy.settings import LimitSettings

LIMITS = LimitSettings(
    sessions=10,
    sessions_per_client=2,
    handshakes_pending=5,
    early_bytes_total=1000,
    header_bytes=300,
    connections=None,
    message_bytes=None,
    messages_per_s=None,
    idle_s=None,
)
FULL = Load(sessions=10, handshakes_pending=5, early_bytes=1000, of_client=2)
ROOM = Load(sessions=9, handshakes_pending=4, early_bytes=999, of_client=1)


def hit(load: Load, head: int = 300, limits: LimitSettings = LIMITS, most: int = 1000):
    return limit_reached(limits, load, head, most)


def test_up_to_each_limit_a_session_may_begin():
    assert hit(ROOM) is None


def test_limits_are_looked_at_from_the_cheapest_to_the_most_personal():
    load, found = FULL, [hit(FULL, 301)]
    for name in ("sessions", "handshakes_pending", "early_bytes", "of_client"):
        found.append(hit(load))
        load = replace(load, **{name: getattr(ROOM, name)})
    assert found == [HEADER_BYTES, SESSIONS, HANDSHAKES_PENDING, EARLY_BYTES_TOTAL, SESSIONS_PER_CLIENT]
    assert hit(load) is None


@pytest.mark.parametrize(
    ("load", "limit", "status"),
    [
        ({"sessions": 10}, SESSIONS, 503),
        ({"handshakes_pending": 5}, HANDSHAKES_PENDING, 503),
        ({"early_bytes": 1000}, EARLY_BYTES_TOTAL, 503),
        ({"of_client": 2}, SESSIONS_PER_CLIENT, 429),
    ],
)
def test_a_limit_is_reached_at_its_very_number_and_tells_when_to_come_back(load, limit, status):
    assert hit(replace(ROOM, **load)) is limit
    assert (limit.status, limit.passes) == (status, True)


def test_a_head_that_is_too_long_is_so_the_next_time_too():
    assert (HEADER_BYTES.status, HEADER_BYTES.passes) == (431, False)


def test_limits_that_are_not_set_are_never_reached():
    unset = replace(LIMITS, sessions=None, sessions_per_client=None, handshakes_pending=None)
    assert hit(replace(FULL, early_bytes=0), limits=unset) is None


def test_no_policy_gives_more_sessions_than_there_are_descriptors_for():
    seven = replace(ROOM, sessions=7)
    assert hit(seven, most=7) is SESSIONS
    assert hit(seven, limits=replace(LIMITS, sessions=None), most=7) is SESSIONS
    assert hit(seven, most=8) is None


def test_a_head_counts_as_it_was_on_the_wire():
    wire = b"GET /a?b HTTP/1.1\r\nHost: example.test\r\nX-Empty: \r\n\r\n"
    assert head_bytes("GET", "/a?b", [(b"Host", b"example.test"), (b"X-Empty", b"")]) == len(wire)
    odd = b"/caf\xc3\xa9/\xff".decode(
        "utf-8", "surrogateescape"
    )  # as aiohttp reads a target that is no UTF-8
    assert head_bytes("GET", odd, []) == len(b"GET /caf\xc3\xa9/\xff HTTP/1.1\r\n\r\n")


def test_sessions_are_counted_by_client_and_nothing_is_kept_of_one_that_has_left():
    clients = Clients()
    for address in ("a", "b", "a"):
        clients.came(address)
    assert [clients.sessions(address) for address in ("a", "b", "c")] == [2, 1, 0]
    clients.went("a")
    assert clients.sessions("a") == 1
    clients.went("a")
    clients.went("b")
    assert len(clients) == 0


def test_a_client_without_an_address_is_not_counted():
    clients = Clients()
    clients.came("")
    assert clients.sessions("") == 0
    clients.went("")
    assert len(clients) == 0


def test_a_flood_of_refusals_is_one_line_in_ten_seconds_that_says_how_many_there_were():
    quieter = Quieter()
    assert quieter.refused(SESSIONS, 100.0) == 1
    assert [quieter.refused(SESSIONS, 100.0 + second) for second in (0, 1, 5, 9.9)] == [None] * 4
    assert quieter.refused(SESSIONS, 110.0) == 5
    assert quieter.refused(SESSIONS, 119.0) is None
    assert quieter.refused(SESSIONS, 500.0) == 2


def test_each_limit_has_lines_of_its_own():
    quieter = Quieter()
    assert quieter.refused(SESSIONS, 0.0) == quieter.refused(HEADER_BYTES, 0.0) == 1


@pytest.fixture
def soft_limit():
    """Set the soft limit of descriptors of this process; put it back afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("descriptors", "sessions"), [(1024, 384), (4096, 1920), (258, 1), (200, 1)])
def test_each_session_wants_two_descriptors_and_some_are_kept_for_the_rest(soft_limit, descriptors, sessions):
    soft_limit(descriptors)
    assert most_sessions() == sessions


def test_the_descriptor_limit_is_raised_as_far_as_the_system_allows(soft_limit):
    soft_limit(1024)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20)
    assert raise_descriptor_limit() == most
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    assert raise_descriptor_limit() == most
