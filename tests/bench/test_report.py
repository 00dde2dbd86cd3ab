from __future__ import annotations

import pytest

from tests.bench import report
from tests.bench.report import Report, loads, markdown, number, table
from tests.bench.result import Result
from tests.bench.stand import OTHERS


@pytest.fixture
def one() -> Report:
    made = Report(
        "2026-11-23 10:00:00",
        "abc123",
        {"CPU": "a fast one", "cores": "2"},
        {"gate": "1.0", "nginx": "1.22.1"},
        {"rounds": 2},
        {"caddy": "caddy is not installed"},
    )
    rounds = [
        {"direct": {"per_s": 50_000.0}, "gate": {"cpu_us": 12.0}, "nginx": {"cpu_us": 10.0}},
        {"direct": {"per_s": 52_000.0}, "gate": {"cpu_us": 14.0}, "nginx": {"cpu_us": 10.0}},
    ]
    made.results.append(Result("echo-64B-100", "echo of 64 B", "message", "cpu_us", rounds))
    return made


def test_a_report_is_the_same_after_json(one: Report):
    assert loads(one.dumps()) == one


def test_a_table_has_a_row_for_each_way_with_the_gate_divided_by_it(one: Report):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown(one).splitlines()]
    assert ["nginx", "-", "10.0", "1.30 (1.20 to 1.40)"] in lines
    assert ["direct", "51,000", "-", "-"] in lines
    assert ["gate", "-", "13.0", "-"] in lines


def test_a_report_tells_machine_versions_missing_peers_and_targets(one: Report):
    text = markdown(one)
    assert "2026-11-23 10:00:00, commit abc123. CPU a fast one, cores 2. gate 1.0, nginx 1.22.1." in text
    assert "caddy is left out: caddy is not installed" in text
    assert "| MISSED" in text
    assert "| not measured" in text


def test_what_else_the_machine_did_is_told_but_is_no_column(one: Report):
    assert "is not known" in one.disturbance
    for taken, others in zip(one.results[0].rounds, (0.1, 0.3), strict=True):
        taken["gate"][OTHERS] = others
    assert "kept 0.20 cores busy (median over turns; at most 0.30)" in markdown(one)
    assert not any(OTHERS in line for line in markdown(one).splitlines() if line.startswith("|"))


def test_a_quick_run_says_that_it_was_one(one: Report):
    assert "quick run" not in markdown(one)
    one.plan["quick"] = True
    assert "quick run" in markdown(one)


def test_what_failed_is_told_and_counts_as_a_failure(one: Report):
    assert one.failures == []
    one.results[0].failed["envoy"] = "could not start"
    one.broken["http-up"] = "TimeoutError"
    assert one.failures == ["echo-64B-100, envoy: could not start", "http-up: TimeoutError"]
    assert "FAILED http-up: TimeoutError" in markdown(one)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.5, "0.50"), (12.34, "12.3"), (1234.5, "1,234"), (-3.0, "-3.00")]
)
def test_numbers_show_three_digits_or_are_whole(value: float | None, shown: str):
    assert number(value) == shown


def test_columns_are_aligned():
    assert table(["a", "bb"], [["long", "c"]]).splitlines() == [
        "| a    | bb |",
        "| ---- | -- |",
        "| long | c  |",
    ]


def test_the_machine_is_described():
    assert set(report.machine()) == {"CPU", "cores", "kernel", "Python"}
