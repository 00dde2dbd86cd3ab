from __future__ import annotations

import json
import math

from tests.bench.result import Result, Round, from_record, interleave, p50_p99


def result(*rounds: Round, figure: str = "cpu_us") -> Result:
    return Result("echo", "an echo", "message", figure, list(rounds))


def cpu(**ways: float) -> Round:
    return {way: {"cpu_us": value} for way, value in ways.items()}


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians():
    one = result(cpu(gate=10, nginx=10), cpu(gate=40, nginx=20), cpu(gate=30, nginx=10))
    assert one.ratios("gate", "nginx") == [1, 2, 3]
    assert one.ratio("gate", "nginx") == 2
    assert one.median("gate") == 30


def test_only_rounds_that_have_both_ways_give_a_ratio():
    one = result(cpu(gate=10, nginx=5), cpu(gate=100, envoy=50), {"gate": {"per_s": 1.0}})
    assert one.ratios("gate", "nginx") == [2]
    assert one.ratios("gate", "envoy") == [2]
    assert one.ratio("gate", "caddy") is None
    assert one.median("caddy") is None
    assert one.ways == ["gate", "nginx", "envoy"]


def test_a_way_without_cpu_of_its_own_has_no_ratio():
    assert result({"gate": {"cpu_us": 3.0}, "direct": {"per_s": 1.0}}).ratio("gate", "direct") is None


def test_above_direct_is_taken_round_by_round():
    one = result(
        {"direct": {"p50_us": 10.0}, "gate": {"p50_us": 15.0}},
        {"direct": {"p50_us": 20.0}, "gate": {"p50_us": 26.0}},
        {"gate": {"p50_us": 99.0}},
    )
    assert one.above_direct("gate", "p50_us") == [5, 6]


def test_percentiles_of_many_and_of_one():
    assert p50_p99([5.0]) == (5.0, 5.0)
    p50, p99 = p50_p99([float(value) for value in range(101)])
    assert math.isclose(p50, 50)
    assert math.isclose(p99, 99)


def test_a_result_is_the_same_after_json():
    one = result(cpu(gate=1.5, nginx=1))
    one.samples, one.notes, one.failed = {"gate": [1.0]}, ["a note"], {"envoy": "did not start"}
    assert from_record(json.loads(json.dumps(one.record()))) == one


def test_ways_take_turns_and_the_order_turns_round(run):
    one, turns = result(), []

    async def turn(way: str) -> dict[str, float]:
        turns.append(way)
        return {"cpu_us": float(len(turns))}

    run(interleave(one, ["gate", "nginx", "envoy"], 3, turn, 10))
    assert turns == ["gate", "nginx", "envoy", "envoy", "nginx", "gate", "gate", "nginx", "envoy"]
    assert [list(taken) for taken in one.rounds] == [["gate", "nginx", "envoy"]] * 3


def test_a_way_that_fails_is_told_and_the_others_go_on(run):
    one = result()

    async def turn(way: str) -> dict[str, float]:
        if way == "envoy":
            raise ExceptionGroup("several", [ConnectionError("reset")])
        return {"cpu_us": 1.0}

    run(interleave(one, ["gate", "envoy"], 2, turn, 10))
    assert one.failed == {"envoy": "ConnectionError: reset"}
    assert one.rounds == [cpu(gate=1.0)] * 2
