"""A dumped policy loads to an equal one, whatever is in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy import load


@pytest.mark.parametrize("name", ["classic", "development", "production", "staging", "testing"])
def test_a_dumped_preset_loads_to_an_equal_policy(name, write):
    assert load(str(write(load(name).dump(), "dumped.yaml"))) == load(name)


ms = st.one_of(st.integers(0, 25), st.floats(0, 25))
fixed = st.fixed_dictionaries({"evidence": st.just("fixed"), "budget_ms": ms})
json_value = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.floats(-1e9, 1e9), st.text(max_size=9)
)
window = st.fixed_dictionaries(
    {"evidence": st.just("quiet"), "min_ms": st.integers(0, 1), "max_ms": st.floats(1, 25)}
)
announcement = st.fixed_dictionaries(
    {"evidence": st.just("message")},
    optional={
        "budget_ms": ms,
        "on_expiry": st.sampled_from(["proceed", "fail"]),
        "json": st.fixed_dictionaries(
            {
                "path": st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(
                    lambda s: "." not in s
                ),
                "equals": json_value,
            }
        ),
    },
)
leg = st.fixed_dictionaries(
    {},
    optional={
        "propagation": fixed,
        "validation": st.one_of(
            fixed, st.fixed_dictionaries({"evidence": st.sampled_from(["pong", "frame"])})
        ),
        "stabilization": st.one_of(fixed, window),
        "announcement": st.one_of(st.none(), fixed, announcement),
    },
)
age = st.one_of(st.none(), st.integers(1, 604_800), st.floats(0.01, 604_800))
count = st.one_of(st.none(), st.integers(1, 10_000_000))
alive = st.fixed_dictionaries(
    {},
    optional={"interval_s": st.one_of(st.none(), st.floats(0.01, 25)), "timeout_s": st.floats(25, 604_800)},
)
route_limits = {
    "message_bytes": st.one_of(st.none(), st.integers(1024, 1 << 40)),
    "messages_per_s": st.one_of(st.none(), st.floats(0.1, 1_000_000)),
    "idle_s": age,
}
sections = {
    "handshake": st.fixed_dictionaries(
        {},
        optional={"client": leg, "upstream": leg, "deadline_s": st.floats(2, 99), "accept": st.just("eager")},
    ),
    "session": st.fixed_dictionaries(
        {},
        optional={
            "upstream_lost_code": st.integers(3000, 4999),
            "max_s": age,
            "jitter": st.one_of(st.integers(0, 1), st.floats(0, 1)),
        },
    ),
    "departure": st.fixed_dictionaries(
        {},
        optional={
            "enabled": st.booleans(),
            "quiet_ms": ms,
            "min_ms": ms,
            "max_ms": st.floats(100, 60_000),
            "max_s": st.floats(0.25, 3600),
        },
    ),
    "keepalive": st.fixed_dictionaries({}, optional={"client": alive, "upstream": alive}),
    "limits": st.fixed_dictionaries({}, optional=route_limits),
}
# What belongs to the whole process: the top alone has it.
process = {
    "http": st.fixed_dictionaries({"trusted_hops": st.integers(0, 32)}),
    "limits": st.fixed_dictionaries(
        {},
        optional=route_limits
        | {
            "sessions": count,
            "sessions_per_client": count,
            "handshakes_pending": count,
            "early_bytes_total": st.integers(1024, 1 << 40),
            "header_bytes": st.integers(1024, 1 << 24),
            "connections": st.none() | st.integers(1, 10_000_000),
        },
    ),
    "drain": st.fixed_dictionaries(
        {}, optional={"spread_s": st.floats(0, 4), "grace_s": st.one_of(st.integers(4, 99), st.floats(4, 99))}
    ),
}
routes = st.lists(
    st.fixed_dictionaries({"path": st.sampled_from(["/a", "/b/*", "/c/**"])}, optional=sections),
    max_size=3,
    unique_by=lambda route: route["path"],
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"extends": st.sampled_from(["production", "classic"])},
        optional=sections | process | {"routes": routes},
    )
)
def test_every_policy_survives_its_dump(document):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.yaml")
        file.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
        policy = load(str(file))
        file.write_text(policy.dump(), "utf-8")
        again = load(str(file))
    assert again == policy
    assert again.dump() == policy.dump()
