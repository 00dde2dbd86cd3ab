"""The keys of an open session and of its ends: their ranges, what null means, what must fit together."""

# ruff: noqa: E501 - messages stand here as users see them

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import yaml

from proxy.core.keepalive import KeepalivePlan
from proxy.core.plan import Role
from proxy.policy import keys


class Range(NamedTuple):
    """A key's range: `below` and `above` are just outside. `beside`: what must fit when it is at an edge."""

    key: str
    below: float
    low: float
    high: float
    above: float
    null: bool = False
    beside: tuple[tuple[str, float], ...] = ()

    @property
    def whole(self) -> bool:
        return isinstance(self.below, int) and self.key.split(".")[-1] in WHOLE

    @property
    def expected(self) -> str:
        kind = "whole number" if self.whole else "number"
        return f"a {kind} from {self.low} to {self.high}" + (" or null" if self.null else "")


WHOLE = {
    "trusted_hops",
    "sessions",
    "sessions_per_client",
    "handshakes_pending",
    "early_bytes_total",
    "header_bytes",
    "connections",
    "message_bytes",
}
WEEK = 604_800
RANGES = [
    Range("http.trusted_hops", -1, 0, 32, 33),
    Range("session.max_s", 0.009, 0.01, WEEK, WEEK + 1, null=True),
    Range("session.jitter", -0.1, 0, 1, 1.1),
    Range("departure.quiet_ms", -1, 0, 60_000, 60_001, beside=(("departure.max_s", 60),)),
    Range("departure.min_ms", -1, 0, 60_000, 60_001, beside=(("departure.max_ms", 60_000),)),
    Range("departure.max_ms", -1, 0, 60_000, 60_001, beside=(("departure.min_ms", 0),)),
    Range("departure.max_s", -1, 0, 3600, 3601, beside=(("departure.quiet_ms", 0),)),
    *(
        Range(
            f"keepalive.{leg}.interval_s",
            0.009,
            0.01,
            WEEK,
            WEEK + 1,
            null=True,
            beside=((f"keepalive.{leg}.timeout_s", WEEK),),
        )
        for leg in Role
    ),
    *(
        Range(
            f"keepalive.{leg}.timeout_s",
            0.009,
            0.01,
            WEEK,
            WEEK + 1,
            beside=((f"keepalive.{leg}.interval_s", 0.01),),
        )
        for leg in Role
    ),
    Range("limits.sessions", 0, 1, 10_000_000, 10_000_001, null=True),
    Range("limits.sessions_per_client", 0, 1, 10_000_000, 10_000_001, null=True),
    Range("limits.handshakes_pending", 0, 1, 10_000_000, 10_000_001, null=True),
    Range("limits.early_bytes_total", 1023, 1024, 1 << 40, (1 << 40) + 1),
    Range("limits.header_bytes", 1023, 1024, 1 << 24, (1 << 24) + 1),
    Range("limits.connections", 0, 1, 10_000_000, 10_000_001, null=True),
    Range("limits.message_bytes", 1023, 1024, 1 << 40, (1 << 40) + 1, null=True),
    Range("limits.messages_per_s", 0.09, 0.1, 1_000_000, 1_000_001, null=True),
    Range("limits.idle_s", 0.009, 0.01, WEEK, WEEK + 1, null=True),
    Range("drain.spread_s", -1, 0, 3600, 3601, beside=(("drain.grace_s", 3600),)),
    Range("drain.grace_s", 1.9, 2, 3600, 3601, beside=(("drain.spread_s", 0),)),
]
each_range = pytest.mark.parametrize("each", RANGES, ids=lambda each: each.key)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as the mappings that a policy file has."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *above, name = key.split(".")
        inner = found
        for part in above:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return found


def written(key: str, value: object) -> str:
    """A file with this key alone, in its third line."""
    return "\n\n" + yaml.safe_dump(nested({key: value}), default_flow_style=True, width=1000)


def test_every_key_of_these_sections_has_its_range_here():
    sections = ("session.", "departure.", "keepalive.", "limits.", "drain.")
    told = {key for key, row in keys.table().items() if key.startswith(sections) and "number" in row.kind}
    assert told | {"http.trusted_hops"} == {each.key for each in RANGES} | {"session.upstream_lost_code"}


@each_range
@pytest.mark.parametrize("edge", ["below", "above"])
def test_a_value_beyond_its_range_is_an_error_at_its_place(each, edge, errors):
    value = getattr(each, edge)
    shown = f"{value:g}" if isinstance(value, float) else value
    assert errors(written(each.key, value)) == [
        f"gate.yaml:3: {each.key}: found {shown}, expected {each.expected}"
    ]


@each_range
@pytest.mark.parametrize("edge", ["low", "high"])
def test_the_ends_of_a_range_belong_to_it(each, edge, policy):
    values = {**dict(each.beside), each.key: getattr(each, edge)}
    found = policy(yaml.safe_dump(nested(values)))
    assert _at(yaml.safe_load(found.dump()), each.key) == getattr(each, edge)


@each_range
def test_null_means_something_where_the_range_says_so_and_nothing_elsewhere(each, policy, errors):
    text = written(each.key, None)
    if each.null:
        assert _at(yaml.safe_load(policy(text).dump()), each.key) is None
    else:
        assert errors(text) == [f"gate.yaml:3: {each.key}: found nothing, expected {each.expected}"]


@each_range
@pytest.mark.parametrize(("value", "shown"), [(True, "true"), ("9", 'the text "9"'), ([9], "a list of 1")])
def test_what_is_no_number_is_refused(each, value, shown, errors):
    assert errors(written(each.key, value)) == [
        f"gate.yaml:3: {each.key}: found {shown}, expected {each.expected}"
    ]


@pytest.mark.parametrize("each", [each for each in RANGES if each.whole], ids=lambda each: each.key)
def test_a_count_is_a_whole_number(each, errors):
    value = each.low + 0.5
    assert errors(written(each.key, value)) == [
        f"gate.yaml:3: {each.key}: found {value:g}, expected {each.expected}"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("departure: {enabled: 1}", "departure.enabled: found 1, expected true or false"),
        ("departure: {enabled: }", "departure.enabled: found nothing, expected true or false"),
        ("keepalive: {client: }", "keepalive.client: found nothing, expected a mapping"),
        ("limits: ", "limits: found nothing, expected a mapping"),
        ("drain: 5", "drain: found 5, expected a mapping"),
        (
            "keepalive: {server: {}}",
            "keepalive.server: found an unknown key, expected client or upstream",
        ),
        (
            "keepalive: {client: {intervall_s: 5}}",
            "keepalive.client.intervall_s: found an unknown key, expected interval_s or timeout_s"
            " (did you mean interval_s?)",
        ),
        (
            "limits: {session: 5}",
            "limits.session: found an unknown key, expected sessions, sessions_per_client, handshakes_pending,"
            " early_bytes_total, header_bytes, connections, message_bytes, messages_per_s or idle_s (did you mean sessions?)",
        ),
        ("drain: {x: 1}", "drain.x: found an unknown key, expected spread_s or grace_s"),
        # each in range, but not together
        (
            "departure: {min_ms: 3000}",
            "departure.min_ms: found 3000, expected at most 2000 (departure.max_ms is 2000)",
        ),
        (
            "departure: {max_ms: 10}",
            "departure.max_ms: found 10, expected at least 100 (departure.min_ms is 100)",
        ),
        (
            "departure: {quiet_ms: 20000}",
            "departure.quiet_ms: found 20000, expected at most 10000 (departure.max_s is 10)",
        ),
        (
            "departure: {max_s: 0.1}",
            "departure.max_s: found 0.1, expected at least 0.25 (departure.quiet_ms is 250)",
        ),
        (
            "keepalive: {client: {interval_s: 90}}",
            "keepalive.client.interval_s: found 90, expected at most 60 (keepalive.client.timeout_s is 60)",
        ),
        (
            "keepalive: {upstream: {timeout_s: 5}}",
            "keepalive.upstream.timeout_s: found 5, expected at least 25 (keepalive.upstream.interval_s is 25)",
        ),
        ("drain: {spread_s: 9}", "drain.spread_s: found 9, expected at most 8 (drain.grace_s is 8)"),
        ("drain: {grace_s: 3}", "drain.grace_s: found 3, expected at least 4 (drain.spread_s is 4)"),
        (
            "drain: {spread_s: 9, grace_s: 5}",
            "drain.spread_s: found 9, expected at most 5 (drain.grace_s is 5)",
        ),
        # in a route
        (
            "routes: [{path: /a, departure: {max_s: 0.1}}]",
            "routes[0].departure.max_s: found 0.1, expected at least 0.25 (departure.quiet_ms is 250)",
        ),
        (
            "routes: [{path: /a, keepalive: {client: {timeout_s: 5}}}]",
            "routes[0].keepalive.client.timeout_s: found 5, expected at least 25 (keepalive.client.interval_s is 25)",
        ),
        (
            "routes: [{path: /a, session: {max_s: 0}}]",
            "routes[0].session.max_s: found 0, expected a number from 0.01 to 604800 or null",
        ),
        (
            "routes: [{path: /a, limits: {message_bytes: 1}}]",
            "routes[0].limits.message_bytes: found 1, expected a whole number from 1024 to 1099511627776 or null",
        ),
        ("routes: [{path: /a, limits: }]", "routes[0].limits: found nothing, expected a mapping"),
        (
            "routes: [{path: /a, drain: {spread_s: 0}}]",
            "routes[0].drain: found an unknown key, expected path, rewrite, handshake, upstream, guard, session, departure,"
            " keepalive or limits",
        ),
    ],
)
def test_a_wrong_section_is_reported_with_its_place_what_was_found_and_what_was_expected(text, line, errors):
    assert errors(f"\n\n{text}\n") == [f"gate.yaml:3: {line}"]


def test_a_leg_that_is_never_pinged_may_have_any_timeout(policy):
    text = "keepalive: {client: {interval_s: null, timeout_s: 1}}"
    assert policy(text).default.settings.keepalive[Role.CLIENT] == KeepalivePlan(None, 1000)


def _at(tree: dict[str, Any], key: str) -> object:
    for part in key.split("."):
        tree = tree[part]
    return tree
