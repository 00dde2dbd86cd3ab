from __future__ import annotations

import dataclasses

import pytest
import yaml

from proxy.core.plan import Accept, Evidence, JsonMatch, OnExpiry, StagePlan, WindowPlan
from proxy.policy import load


def reloaded(policy, write):
    return load(str(write(policy.dump(), "dumped.yaml")))


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "null\n", "{}\n", "extends: production\n"]
)
def test_an_empty_policy_is_production(text, policy):
    assert policy(text) == load("production")


def test_a_policy_file_is_named_by_its_file(policy):
    assert policy("").name == "gate.yaml"


def test_a_byte_order_mark_is_no_part_of_the_file(write):
    assert load(str(write(b"\xef\xbb\xbfextends: testing\n"))) == load("testing")


def test_mappings_merge_and_lists_and_values_replace(policy):
    plan = policy("handshake: {redial: {tries: 3, statuses: [429]}}").default.settings.handshake
    assert (plan.redial.tries, plan.redial.statuses, plan.redial.base_ms) == (3, frozenset({429}), 25)


def test_extends_follows_files_relative_to_the_one_that_names_them(write):
    write("extends: ../classic-but-slower.yaml\nhandshake: {deadline_s: 30}\n", "sub/parent.yaml")
    write("extends: classic\nhandshake: {client: {validation: {budget_ms: 99}}}\n", "classic-but-slower.yaml")
    plan = load(str(write("extends: sub/parent.yaml\nhandshake: {retry_after_s: 7}\n"))).default.settings
    assert plan.retry_after_s == 7
    assert plan.handshake.deadline_ms == 30_000
    assert plan.handshake.client.validation == StagePlan(Evidence.FIXED, 99)


def test_a_stage_that_becomes_fixed_drops_what_it_inherited_for_proof(policy):
    stages = "{stabilization: {evidence: fixed, budget_ms: 9}, validation: {evidence: fixed}}"
    leg = policy(f"handshake: {{upstream: {stages}}}").default.settings.handshake.upstream
    assert leg.stabilization == StagePlan(Evidence.FIXED, 9)
    assert leg.validation == StagePlan(Evidence.FIXED, 75)


def test_a_stage_that_becomes_quiet_again_has_the_window_it_had_before(policy):
    plan = policy("extends: classic\nhandshake: {upstream: {stabilization: {evidence: quiet, max_ms: 7}}}")
    assert plan.default.settings.handshake.upstream.stabilization == WindowPlan(0, 7, 60)


ANNOUNCED = """
handshake:
  upstream:
    announcement: {evidence: message, json: {path: data.event, equals: ready}}
"""


def test_an_announcement_has_its_own_defaults(policy):
    leg = policy(ANNOUNCED).default.settings.handshake.upstream
    assert leg.announcement == StagePlan(Evidence.MESSAGE, 2000, OnExpiry.PROCEED)
    assert leg.match == JsonMatch(("data", "event"), "ready")


@pytest.mark.parametrize(
    ("child", "announcement", "match"),
    [
        ("null", None, None),
        ("{json: null}", StagePlan(Evidence.MESSAGE, 2000), None),
        ("{json: {equals: null}}", StagePlan(Evidence.MESSAGE, 2000), JsonMatch(("data", "event"), None)),
        ("{json: {equals: on}}", StagePlan(Evidence.MESSAGE, 2000), JsonMatch(("data", "event"), "on")),
        ("{evidence: fixed, budget_ms: 5}", StagePlan(Evidence.FIXED, 5), None),
    ],
)
def test_a_child_can_remove_or_change_an_announcement(child, announcement, match, write, policy):
    write(ANNOUNCED, "parent.yaml")
    changed = policy(f"extends: parent.yaml\nhandshake: {{upstream: {{announcement: {child}}}}}")
    leg = changed.default.settings.handshake.upstream
    assert (leg.announcement, leg.match) == (announcement, match)
    assert reloaded(changed, write) == changed


def test_the_lost_code_reaches_the_handshake_too(policy):
    settings = policy("session: {upstream_lost_code: 4000}").default.settings
    assert (settings.session.upstream_lost_code, settings.handshake.lost_code) == (4000, 4000)


def test_a_ca_file_is_relative_to_the_policy_that_has_it(write, tmp_path):
    write("upstream: {tls: {ca_file: ca.pem}}", "sub/p.yaml")
    policy = load(str(write("extends: sub/p.yaml")))
    assert policy.default.settings.upstream.tls.ca_file == str(tmp_path / "sub/ca.pem")


def test_all_routes_trust_the_upstream_alike(policy):
    found = policy("upstream: {tls: {verify: false}}\nroutes: [{path: /a, upstream: {connect_timeout_s: 9}}]")
    assert found.routes[0].settings.upstream.tls == found.default.settings.upstream.tls
    assert found.routes[0].settings.upstream.connect_timeout_s == 9


def test_aliases_may_share_a_part(policy):
    plan = policy("handshake: {client: {validation: &v {budget_ms: 7}}, upstream: {validation: *v}}")
    assert plan.default.settings.handshake.upstream.validation.budget_ms == 7


ROUTES = """
extends: staging
handshake: {accept: eager, eager: {subprotocols: [chat]}}
routes:
  - path: /websocket
    rewrite: /ws
  - path: /ws/special
    handshake: {accept: mirrored, deadline_s: 3, eager: {subprotocols: []}}
    session: {upstream_lost_code: 4001}
  - path: /ws/**
    rewrite: /socket/**
    handshake:
      client: {stabilization: {evidence: fixed, budget_ms: 4}}
      upstream: {announcement: {evidence: message}}
    upstream: {connect_timeout_s: 1}
    departure: {quiet_ms: 5}
"""


@pytest.mark.parametrize(
    ("path", "pattern", "target"),
    [
        ("/websocket", "/websocket", "/ws"),
        ("/ws/special", "/ws/special", "/ws/special"),
        ("/ws/a%20b", "/ws/**", "/socket/a%20b"),
        ("/other", "*", "/other"),
        ("*", "*", "*"),
    ],
)
def test_the_first_route_that_matches_wins(path, pattern, target, policy):
    route = policy(ROUTES).route(path)
    assert (route.pattern, route.rewrite(path)) == (pattern, target)


def test_a_route_is_laid_over_the_top(policy):
    found = policy(ROUTES)
    alias, special, rest = (route.settings for route in found.routes)
    assert alias == found.default.settings
    assert special.handshake.accept is Accept.MIRRORED
    assert (special.handshake.deadline_ms, special.handshake.eager_subprotocols) == (3000, ())
    assert (special.session.upstream_lost_code, special.handshake.lost_code) == (4001, 4001)
    assert rest.handshake.accept is Accept.EAGER
    assert rest.handshake.client.stabilization == StagePlan(Evidence.FIXED, 4)
    assert (rest.upstream.connect_timeout_s, rest.departure.quiet_ms) == (1, 5)
    assert rest.http == found.default.settings.http


def test_routes_of_a_parent_stay_until_a_child_writes_its_own(write, policy):
    write(ROUTES, "parent.yaml")
    assert len(policy("extends: parent.yaml\nhandshake: {retry_after_s: 9}").routes) == 3
    assert policy("extends: parent.yaml\nhandshake: {retry_after_s: 9}").routes[0].settings.retry_after_s == 9
    assert policy("extends: parent.yaml\nroutes: []").routes == ()


def test_a_parents_route_can_change_a_stage_that_the_child_tuned(write, policy):
    write(
        "routes: [{path: /a, handshake: {client: {stabilization: {evidence: fixed, budget_ms: 3}}}}]",
        "parent.yaml",
    )
    found = policy("extends: parent.yaml\nhandshake: {client: {stabilization: {max_ms: 9}}}")
    assert found.default.settings.handshake.client.stabilization == WindowPlan(0, 9, 60)
    assert found.routes[0].settings.handshake.client.stabilization == StagePlan(Evidence.FIXED, 3)


def test_a_route_can_prove_what_the_top_only_waits_for(policy):
    found = policy(
        "extends: classic\nroutes: [{path: /a, handshake: {upstream: {stabilization: {evidence: quiet}}}}]"
    )
    assert found.routes[0].settings.handshake.upstream.stabilization == WindowPlan(0, 25, 60)


def test_a_dump_shows_the_whole_top_and_what_each_route_changes(policy, write):
    found = policy(ROUTES)
    assert found.dump().startswith(
        "# effective policy: gate.yaml\nhandshake:\n  accept: eager\n  deadline_s: 10\n"
    )
    assert yaml.safe_load(found.dump())["routes"] == [
        {"path": "/websocket", "rewrite": "/ws"},
        {
            "path": "/ws/special",
            "handshake": {"accept": "mirrored", "deadline_s": 3, "eager": {"subprotocols": []}},
            "session": {"upstream_lost_code": 4001},
        },
        {
            "path": "/ws/**",
            "rewrite": "/socket/**",
            "handshake": {
                "client": {"stabilization": {"evidence": "fixed", "budget_ms": 4}},
                "upstream": {
                    "announcement": {
                        "evidence": "message",
                        "budget_ms": 2000,
                        "on_expiry": "proceed",
                        "json": None,
                    }
                },
            },
            "upstream": {"connect_timeout_s": 1},
            "departure": {"quiet_ms": 5},
        },
    ]
    assert reloaded(found, write) == found


def test_a_loaded_policy_cannot_be_changed():
    policy = load("production")
    for owner, name in [(policy, "name"), (policy.default, "pattern"), (policy.default.settings, "http")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(owner, name, None)
