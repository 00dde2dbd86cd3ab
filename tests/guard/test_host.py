"""For which hosts a request is taken, and which Host fields make it none."""

from __future__ import annotations

import pytest

from proxy.guard import bad_host, host_denied
from proxy.guard.denial import BAD_HOST, HOST
from proxy.policy.origins import checked_host


def bad(*fields: str, host: str | None = None, required: bool = True):
    return bad_host(fields, (fields[0] if fields else "") if host is None else host, required=required)


def denied(listed: str, host: str, *forwarded: bytes):
    hosts = frozenset(map(checked_host, listed.split()))
    return host_denied(hosts, host, [(b"x-forwarded-host", line) for line in forwarded])


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "EXAMPLE.com:8080", "a_b", "10.0.0.1:80", "[::1]", "[2001:db8::7]:443", "a."),
        *("a%2Db", "example.com:", "x" * 255),
    ],
)
def test_a_host_by_the_grammar_is_good(host):
    assert bad(host) is None


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "a/b", "user@a", "a:b", "a:123456", "a:1:2", "::1", "[::1", "[::1]x", "[::g]"),
        *("[fe80::1%eth0]", "a%2", "é", "a\udcff", "a,b c", "http://a", "a?b", "a#b", "a\\b", "x" * 256),
    ],
)
def test_a_host_beyond_the_grammar_is_a_400(host):
    assert bad(host) is BAD_HOST
    assert bad("example.com", host=host) is (BAD_HOST if host else None)  # as an absolute target's authority
    assert BAD_HOST.status == 400


def test_http_1_1_wants_one_host_and_no_message_has_two():
    assert bad() is BAD_HOST
    assert bad(required=False) is None
    assert bad("a", "a") is BAD_HOST
    assert bad("a", "b", required=False) is BAD_HOST
    assert bad("a b", host="a") is BAD_HOST  # though the target names another


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("example.com", "example.com"),
        ("Example.com.", "EXAMPLE.com"),
        ("example.com", "example.com."),
        ("example.com", "example.com:8443"),
        ("example.com:8443", "example.com:8443"),
        ("example.com:443", "example.com"),
        ("example.com:80", "example.com"),
        ("*.example.com", "a.b.example.com"),
        ("*.example.com:8443", "a.example.com:8443"),
        ("other.example 10.0.0.1", "10.0.0.1:8080"),
        ("[2001:db8::1]", "[2001:DB8:0::1]:8080"),
    ],
)
def test_a_listed_host_is_served(listed, host):
    assert denied(listed, host) is None


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("example.com", "a.example.com"),
        ("*.example.com", "example.com"),
        ("*.example.com", "evilexample.com"),
        ("example.com:8443", "example.com"),
        ("example.com:8443", "example.com:443"),
        ("example.com", "evil.example"),
        ("example.com", "example.com.evil.example"),
        ("example.com", "127.0.0.1"),
        ("example.com", ""),
        ("example.com", "a b"),
    ],
)
def test_any_other_is_misdirected(listed, host):
    assert denied(listed, host) is HOST
    assert HOST.status == 421


def test_a_forwarded_host_has_to_be_listed_as_well_for_the_upstream_may_go_by_it():
    assert denied("example.com", "example.com", b"example.com") is None
    assert denied("example.com", "example.com", b"evil.example") is HOST
    assert denied("example.com", "example.com", b"example.com", b"example.com, evil.example") is HOST
    assert denied("example.com", "evil.example", b"example.com") is HOST
