"""Which pages may open a WebSocket, by what a browser says of them."""

from __future__ import annotations

import pytest

from proxy.guard import asked_host, origin_denied
from proxy.guard.denial import ORIGIN, ORIGIN_MISSING
from proxy.policy.origins import checked_origin


def denied(listed: list[str] | None, *fields: str, host: str = "gate.example", required: bool = False):
    origins = None if listed is None else frozenset(map(checked_origin, listed))
    return origin_denied(origins, list(fields), host, required=required)


def test_without_a_list_any_page_may():
    assert denied(None, "https://evil.example") is None
    assert denied(None, "a", "b") is None


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://App.Example.com:443", "https://app.example.com"),
        ("https://app.example.com", "HTTPS://APP.example.com:443"),
        ("http://app.example.com:8080", "http://app.example.com:8080"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("http://[::1]:3000", "http://[0:0:0:0:0:0:0:1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("null", "null"),
    ],
)
def test_a_listed_origin_is_let_in_in_whatever_spelling(listed, origin):
    assert denied([listed], origin) is None


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("https://app.example.com", "http://app.example.com"),
        ("https://app.example.com", "https://app.example.com:8443"),
        ("https://app.example.com", "https://app.example.com.evil.example"),
        ("https://app.example.com", "https://evil.example/https://app.example.com"),
        ("https://app.example.com", "https://app.example.com@evil.example"),
        ("https://app.example.com", "https://app.example.com/"),
        ("https://app.example.com", "app.example.com"),
        ("https://app.example.com", "null"),
        ("https://app.example.com", ""),
        ("https://app.example.com", "https://app.example.com https://evil.example"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://a.example.com:8443"),
        ("https://*.example.com:8443", "https://a.example.com"),
        ("https://*.example.com", "https://*.example.com.evil.example"),
        ("same", "null"),
        ("null", "https://null"),
    ],
)
def test_any_other_is_refused(listed, origin):
    assert denied([listed], origin) is ORIGIN


def test_an_empty_list_lets_no_page_in():
    assert denied([], "https://app.example.com") is ORIGIN
    assert denied([], "null") is ORIGIN


def test_two_origins_are_none_even_if_both_are_listed():
    listed = ["https://a.example", "https://b.example"]
    assert denied(listed, *listed) is ORIGIN
    assert denied(listed, listed[0], listed[0]) is ORIGIN


def test_who_says_no_origin_is_let_in_unless_one_is_required():
    assert denied(["https://a.example"]) is None
    assert denied([]) is None
    assert denied(["https://a.example"], required=True) is ORIGIN_MISSING
    assert denied(None, required=True) is ORIGIN_MISSING
    assert denied(None, "https://anything.example", required=True) is None


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("https://gate.example", "gate.example", True),
        ("https://gate.example", "gate.example:443", True),
        ("http://gate.example:8080", "GATE.example:8080", True),
        ("http://gate.example", "gate.example", True),  # who ends TLS is not known
        ("https://gate.example", "gate.example:80", False),
        ("https://gate.example", "gate.example:8080", False),
        ("https://gate.example:8080", "gate.example", False),
        ("https://evil.example", "gate.example", False),
        ("https://a.gate.example", "gate.example", False),
        ("chrome-extension://gate.example", "gate.example", False),
        ("https://gate.example", "", False),
    ],
)
def test_same_is_the_host_that_was_asked_for(origin, host, is_same):
    assert (denied(["same"], origin, host=host) is None) == is_same


def test_same_and_others_may_be_listed_together():
    listed = ["same", "https://app.example.com"]
    assert denied(listed, "https://gate.example") is None
    assert denied(listed, "https://app.example.com") is None
    assert denied(listed, "https://evil.example") is ORIGIN


@pytest.mark.parametrize(
    ("lines", "hops", "asked"),
    [
        ([b"www.example"], 0, "inner"),
        ([b"www.example"], 1, "www.example"),
        ([b"forged, www.example"], 1, "www.example"),
        ([b"forged", b"www.example, middle"], 2, "www.example"),
        ([], 1, "inner"),
        ([b" , "], 1, "inner"),
    ],
)
def test_what_was_asked_for_a_trusted_hop_knows_better(lines, hops, asked):
    assert asked_host([(b"X-Forwarded-Host", line) for line in lines], "inner", hops) == asked


def test_a_refusal_tells_nothing_of_what_is_listed():
    assert {ORIGIN.status, ORIGIN_MISSING.status} == {403}
    assert "example" not in ORIGIN.detail + ORIGIN_MISSING.detail
