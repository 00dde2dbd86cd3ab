"""Who may come in, as a policy says it: what may be listed, how it arrives, what a route changes."""

from __future__ import annotations

import pytest
import yaml

from proxy.policy import GuardSettings, load

ORIGIN = 'same, "null", or an origin such as https://app.example.com or https://*.example.com'
HOST = "a host such as example.com, *.example.com or example.com:8443"

GUARDED = """
guard:
  origins: [same, "null", "https://App.Example.com:443", "http://[0:0::1]:3000"]
  hosts: ["Example.com.", "*.example.com:08443"]
routes:
  - path: /feed/**
    guard: {origins: null}
  - path: /app/**
    guard: {origin_required: true}
"""
ORIGINS = frozenset({"same", "null", "https://app.example.com", "http://[::1]:3000"})
HOSTS = frozenset({"example.com", "*.example.com:8443"})


def test_what_is_listed_arrives_in_one_spelling(policy):
    assert policy(GUARDED).default.settings.guard == GuardSettings(
        ORIGINS, origin_required=False, hosts=HOSTS
    )


def test_a_route_may_have_other_origins_and_keeps_what_it_does_not_name(policy):
    found = policy(GUARDED)
    feed, app = (found.route(path).settings.guard for path in ("/feed/a", "/app/a"))
    assert feed == GuardSettings(None, origin_required=False, hosts=HOSTS)
    assert app == GuardSettings(ORIGINS, origin_required=True, hosts=HOSTS)
    assert [each.judges_origins for each in (feed, app)] == [False, True]


def test_a_dump_loads_to_the_same_guard(policy, write):
    found = policy(GUARDED)
    assert load(str(write(found.dump(), "dumped.yaml"))) == found
    dumped = yaml.safe_load(found.dump())
    assert dumped["routes"][0] == {"path": "/feed/**", "guard": {"origins": None}}
    assert dumped["guard"]["hosts"] == ["example.com", "*.example.com:8443"]


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "example.com",
            "https://",
            "https://a.b/",
            "https://*",
            "https://a.*.b",
            "https://*a.b",
            "https://u@a",
        ),
        *("https://a:b", "none", "'*'", "ws s://a", "https://a..b"),
    ],
)
def test_what_is_no_origin_is_reported_with_what_one_is_like(origin, errors):
    told = yaml.safe_load(origin)
    (line,) = errors(f"guard:\n  origins:\n    - https://ok.example\n    - {origin}\n")
    assert line == f'gate.yaml:4: guard.origins[1]: found the text "{told}", expected {ORIGIN}'


def test_null_without_quotes_is_told_apart_from_the_origin_null(errors):
    assert errors("guard: {origins: [null]}") == [
        f"gate.yaml:1: guard.origins[0]: found nothing, expected {ORIGIN}"
    ]


@pytest.mark.parametrize("host", ["a b", "http://a", "'*'", "a/b", '"[::g]"', '""', "a.*", "é"])
def test_what_is_no_host_is_reported_with_what_one_is_like(host, errors):
    (line,) = errors(f"guard:\n  hosts: [{host}]\n")
    assert line.startswith("gate.yaml:2: guard.hosts[0]: found ")
    assert line.endswith(f"expected {HOST}")


def test_hosts_are_the_same_for_all_routes(errors):
    assert errors("routes:\n  - path: /a\n    guard:\n      hosts: [a]\n") == [
        "gate.yaml:4: routes[0].guard.hosts: found a key that a route cannot override, expected"
        " origins, origin_required or jwt (guard.hosts at the top is for all routes)"
    ]


def test_what_hops_say_cannot_be_both_believed_and_thrown_away(errors, policy):
    assert errors("http: {forwarded: replace, trusted_hops: 2}") == [
        'gate.yaml:1: http.forwarded: found the text "replace", expected keep (http.trusted_hops is 2)'
    ]
    http = policy("http: {forwarded: replace}").default.settings.http
    assert (http.forwarded, http.trusted_hops) == ("replace", 0)


def test_of_the_two_the_one_that_was_written_over_the_other_is_reported(errors, write):
    write("http: {forwarded: replace}", "below.yaml")
    assert errors("extends: below.yaml\nhttp: {trusted_hops: 1}") == [
        "gate.yaml:2: http.trusted_hops: found 1, expected 0 (http.forwarded is replace)"
    ]
