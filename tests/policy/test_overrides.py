"""What a route may change of an open session and of its ends, and what belongs to the whole process."""

from __future__ import annotations

import pytest
import yaml

from proxy.core.departure import DeparturePlan
from proxy.core.keepalive import KeepalivePlan
from proxy.core.plan import Role
from proxy.policy import LimitSettings, load

PROCESS = [
    "sessions",
    "sessions_per_client",
    "handshakes_pending",
    "early_bytes_total",
    "header_bytes",
    "connections",
]


@pytest.mark.parametrize("name", PROCESS)
@pytest.mark.parametrize("value", ["2048", "null", "wrong"])
def test_a_route_cannot_override_a_limit_of_the_process_whatever_its_value(name, value, errors):
    assert errors(f"routes:\n  - path: /a\n    limits:\n      idle_s: 5\n      {name}: {value}\n") == [
        f"gate.yaml:5: routes[0].limits.{name}: found a key that a route cannot override, expected"
        " message_bytes, messages_per_s or idle_s (the other limits are for the whole process)"
    ]


OVERRIDDEN = """
limits: {sessions: 500, idle_s: 900}
keepalive: {upstream: {timeout_s: 40}}
routes:
  - path: /feed/**
    keepalive: {client: {interval_s: 5, timeout_s: 11}, upstream: {interval_s: null}}
    limits: {message_bytes: 4096, messages_per_s: 2.5, idle_s: null}
    session: {max_s: 240, jitter: 0}
    departure: {enabled: false}
"""


def test_a_routes_overrides_arrive_in_its_settings(policy):
    found = policy(OVERRIDDEN).route("/feed/a").settings
    assert found.keepalive == {
        Role.CLIENT: KeepalivePlan(5000, 11_000),
        Role.UPSTREAM: KeepalivePlan(None, 40_000),
    }
    assert found.limits == LimitSettings(500, None, None, 1 << 28, 1 << 16, None, 4096, 2.5, None)
    assert found.handshake.message_bytes == 4096
    assert (found.session.max_s, found.session.jitter, found.session.upstream_lost_code) == (240, 0, 1014)
    assert found.departure == DeparturePlan(
        enabled=False, quiet_ms=250, min_ms=100, max_ms=2000, longest_ms=10_000
    )


def test_other_paths_keep_what_stands_at_the_top(policy):
    found, production = policy(OVERRIDDEN).route("/other").settings, load("production").default.settings
    assert (found.session, found.departure) == (production.session, production.departure)
    assert found.limits == LimitSettings(500, None, None, 1 << 28, 1 << 16, None, None, None, 900)
    assert found.keepalive[Role.UPSTREAM] == KeepalivePlan(25_000, 40_000)
    assert found.keepalive[Role.CLIENT] == KeepalivePlan(25_000, 60_000)


def test_a_dump_shows_of_a_route_only_what_it_changes(policy, write):
    found = policy(OVERRIDDEN)
    assert yaml.safe_load(found.dump())["routes"] == [
        {
            "path": "/feed/**",
            "session": {"max_s": 240, "jitter": 0},
            "departure": {"enabled": False},
            "keepalive": {
                "client": {"interval_s": 5, "timeout_s": 11},
                "upstream": {"interval_s": None},
            },
            "limits": {"message_bytes": 4096, "messages_per_s": 2.5, "idle_s": None},
        }
    ]
    assert load(str(write(found.dump(), "dumped.yaml"))) == found
