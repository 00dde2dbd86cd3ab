from __future__ import annotations

import pytest

from tests.bench.coming import TRACING
from tests.bench.relaying import AT_100
from tests.bench.result import Result, Round
from tests.bench.targets import Verdict, best_peer, verdicts


def judged(name: str, *rounds: Round, figure: str = "cpu_us") -> list[Verdict]:
    return verdicts({name: Result(name, "a workload", "message", figure, list(rounds))})


def figures(figure: str = "cpu_us", **ways: float) -> Round:
    return {way: {figure: value} for way, value in ways.items()}


def test_the_small_echo_is_judged_against_three_peers():
    rows = judged("echo-64B-100", figures(gate=12, nginx=10, haproxy=12, envoy=20))
    assert [(row.against, row.value, row.target, row.word) for row in rows] == [
        ("nginx", 1.2, 1.25, "met"),
        ("haproxy", 1.0, 1.0, "met"),
        ("envoy", 0.6, 0.8, "met"),
    ]


@pytest.mark.parametrize("name", ["burst-8", "burst-64"])
def test_bursts_are_judged_against_envoy(name: str):
    [row] = judged(name, figures(gate=1.9, envoy=2.0, nginx=1))
    assert (row.value, row.target, row.word) == (0.95, 0.9, "MISSED")


@pytest.mark.parametrize("name", ["echo-64KiB-20", "echo-1MiB-4"])
def test_the_best_peer_is_the_cheapest_that_is_neither_direct_nor_a_gate(name: str):
    taken = figures(direct=1, gate=30, nginx=200, haproxy=70, envoy=50) | {AT_100: {"cpu_us": 2.0}}
    assert best_peer(Result(name, "", "", "cpu_us", [taken])) == "envoy"
    [row] = judged(name, taken)
    assert (row.against, row.value, row.word) == ("the best peer (envoy)", 0.6, "met")


def test_memory_is_judged_by_resident_kilobytes():
    [row] = judged("idle-memory", figures("rss_kb", gate=12, nginx=16), figure="rss_kb")
    assert (row.value, row.target, row.word) == (0.75, 0.7, "MISSED")
    assert "memory" in row.what


def test_latency_is_compared_above_direct():
    [row] = judged("echo-64B-1", figures("p50_us", direct=30, gate=52, nginx=50))
    assert (row.value, row.target, row.word) == (1.1, 1.1, "met")


def test_many_connections_are_compared_with_a_gate_that_has_few():
    [row] = judged("echo-64B-5000", {"gate": {"cpu_us": 26.0}, AT_100: {"cpu_us": 20.0}})
    assert (row.value, row.target, row.word) == (1.3, 1.25, "MISSED")


@pytest.mark.parametrize(("nginx_us", "target_ms"), [(50, 1.0), (200, 1.6)])
def test_a_handshake_may_cost_a_millisecond_or_eight_of_nginx(nginx_us: float, target_ms: float):
    [row] = judged("handshakes", {TRACING: {"cpu_us": 1100.0}, "nginx": {"cpu_us": nginx_us}})
    assert (row.value, row.target, row.unit) == (1.1, target_ms, "ms")


def test_the_first_reply_is_judged_above_direct():
    [row] = judged("opening", figures("reply_ms", direct=3, gate=4.5, classic=130), figure="reply_ms")
    assert (row.value, row.target, row.word) == (1.5, 2.0, "met")


def test_what_was_not_measured_is_neither_met_nor_missed():
    rows = judged("echo-64B-100", figures(gate=12, nginx=10))
    assert [row.word for row in rows] == ["met", "not measured", "not measured"]
    assert judged("fanout-1000", figures(gate=1)) == []
