from __future__ import annotations

import pytest

from proxy.core.departure import DeparturePlan
from proxy.core.keepalive import KeepalivePlan
from proxy.core.plan import Accept, Evidence, HandshakePlan, OnExpiry, RedialPlan, Role, StagePlan, WindowPlan
from proxy.policy import (
    DrainSettings,
    GuardSettings,
    HttpSettings,
    LimitSettings,
    PolicyError,
    SessionSettings,
    TlsSettings,
    UpstreamSettings,
    load,
    presets,
)

NAMES = ["classic", "development", "production", "staging", "testing"]


def test_these_presets_are_shipped():
    assert sorted(presets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_loads_under_its_name_and_has_no_routes(name):
    policy = load(name)
    assert (policy.name, policy.routes, policy.default.pattern) == (name, (), "*")


@pytest.mark.parametrize(
    ("name", "propagation_ms", "validation_ms", "stabilization_ms", "deadline_ms"),
    [
        ("development", 5, 10, 5, 5000),
        ("testing", 1, 5, 1, 5000),
        ("staging", 50, 75, 25, 10_000),
        ("production", 50, 75, 25, 10_000),
    ],
)
def test_presets_differ_in_their_budgets(name, propagation_ms, validation_ms, stabilization_ms, deadline_ms):
    plan = load(name).default.settings.handshake
    assert plan.deadline_ms == deadline_ms
    for leg in (plan.client, plan.upstream):
        assert leg.propagation == StagePlan(Evidence.ACKED, propagation_ms, OnExpiry.PROCEED)
        assert leg.validation == StagePlan(Evidence.PONG, validation_ms, OnExpiry.PROCEED)
        assert leg.stabilization == WindowPlan(0, stabilization_ms, 60)
        assert (leg.announcement, leg.match, leg.early_bytes) == (None, None, 1 << 20)


def test_classic_sleeps_on_the_client_leg_and_skips_the_upstream_leg():
    plan = load("classic").default.settings.handshake
    client, upstream = plan.client, plan.upstream
    assert [s.budget_ms for s in (client.propagation, client.validation, client.stabilization)] == [
        50,
        50,
        25,
    ]
    assert {s.evidence for s in (client.propagation, client.validation, client.stabilization)} == {
        Evidence.FIXED
    }
    assert {s.budget_ms for s in (upstream.propagation, upstream.validation, upstream.stabilization)} == {0}
    assert plan.redial.tries == 1


def test_production_converts_to_the_documented_settings():
    settings = load("production").default.settings
    assert isinstance(settings.handshake, HandshakePlan)
    assert settings.handshake.accept is Accept.MIRRORED
    assert settings.handshake.redial == RedialPlan()
    assert (settings.handshake.eager_subprotocols, settings.handshake.lost_code) == ((), 1014)
    assert settings.retry_after_s == 1
    assert settings.upstream == UpstreamSettings(3, TlsSettings(verify=True, ca_file=None, server_name=None))
    assert settings.http == HttpSettings(10, 60, 620, 300, 1000, 16384, 16384, 128, 0, "keep")
    assert settings.guard == GuardSettings(origins=None, origin_required=False, hosts=None)
    assert settings.session == SessionSettings(1014, None, 0.1)
    assert settings.departure == DeparturePlan(
        enabled=True, quiet_ms=250, min_ms=100, max_ms=2000, longest_ms=10_000
    )
    assert settings.keepalive == dict.fromkeys(Role, KeepalivePlan(25_000, 60_000))
    assert settings.limits == LimitSettings(None, None, None, 1 << 28, 1 << 16, None, None, None, None)
    assert settings.handshake.message_bytes is None
    assert settings.drain == DrainSettings(4, 8)


@pytest.mark.parametrize(
    ("name", "spread_s"),
    [("classic", 4), ("development", 0), ("production", 4), ("staging", 4), ("testing", 0)],
)
def test_only_who_may_have_real_users_spreads_a_drain(name, spread_s):
    assert load(name).default.settings.drain == DrainSettings(spread_s, 8)


def test_a_preset_wins_over_a_file_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "staging").write_text("nonsense: 1")
    monkeypatch.chdir(tmp_path)
    assert load("staging").name == "staging"


def test_an_unknown_name_lists_the_presets():
    with pytest.raises(PolicyError) as caught:
        load("prod")
    assert str(caught.value) == (
        'prod: policy: found no preset "prod", expected classic, development, production, staging, testing'
        " or a policy file (did you mean production?)"
    )


def test_a_missing_file_is_named():
    with pytest.raises(PolicyError) as caught:
        load("nowhere/gate.yaml")
    assert str(caught.value) == (
        "nowhere/gate.yaml: policy: found no such file: nowhere/gate.yaml, expected classic, development,"
        " production, staging, testing or a policy file"
    )
