from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import peers
from tests.bench.relaying import AT_100, groups
from tests.bench.report import Report
from tests.bench.result import Result
from tests.bench.stand import Plan


def planned(*words: str) -> Plan:
    return bench.plan(bench.options(words), ["direct", "gate"], 20_000)


def test_without_options_everything_is_measured_in_five_rounds():
    chosen = bench.options([])
    assert (chosen.only, chosen.peers, chosen.out) == (None, None, Path("bench-results"))
    assert planned() == Plan(("direct", "gate"), rounds=5, seconds=1.0, quick=False, files=20_000)


def test_workloads_and_peers_are_chosen_by_name():
    chosen = bench.options(["--only", "burst-8", "http-up", "--only", "opening", "--peers", "gate", "nginx"])
    assert chosen.only == ["burst-8", "http-up", "opening"]
    assert chosen.peers == ["gate", "nginx"]


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--peers", "apache"]])
def test_an_unknown_name_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        bench.options(words)
    assert "invalid choice" in capsys.readouterr().err


def test_a_quick_run_is_one_short_round_unless_told_otherwise():
    assert (planned("--quick").rounds, planned("--quick").seconds) == (1, 0.2)
    assert planned("--quick", "--rounds", "3").rounds == 3
    assert planned("--quick").connections(5000, 200) == 200
    assert planned("--seconds", "2").seconds == 2


def test_connections_are_bounded_by_descriptors():
    assert Plan((), files=20_000).connections(5000, 200) == 5000
    assert Plan((), files=4096).connections(5000, 200) == 1798


def test_groups_of_ways_fit_into_the_descriptors_and_the_gate_is_in_each():
    ways = ["direct", "gate", "nginx", "haproxy", "envoy", "caddy", AT_100]
    assert list(groups(ways, 100, 19_500)) == [ways]
    assert list(groups(ways, 5000, 19_500)) == [
        ["direct", "gate", "nginx", AT_100],
        ["gate", "haproxy", "envoy"],
        ["gate", "caddy"],
    ]
    assert list(groups(["gate", AT_100], 5000, 19_500)) == [["gate", AT_100]]
    assert list(groups(["nginx", "envoy"], 5000, 6000)) == [["nginx"], ["envoy"]]


def test_peers_that_are_not_installed_are_left_out_with_the_reason(monkeypatch):
    def gone() -> str:
        raise peers.MissingToolError("caddy is not installed")

    monkeypatch.setitem(peers.BINARIES, "caddy", gone)
    plan, report = bench.begin(bench.options(["--peers", "gate", "caddy"]))
    assert plan.ways == ("gate",)
    assert report.missing == {"caddy": "caddy is not installed: make bench-setup"}


def test_a_workload_that_breaks_is_a_failure_and_a_missed_target_is_not(tmp_path: Path, monkeypatch, capsys):
    async def missed(plan: Plan) -> Result:
        rounds = [{"gate": {"cpu_us": 100.0}, "nginx": {"cpu_us": 1.0}}]
        return Result("echo-64B-100", "echo", "message", "cpu_us", rounds)

    async def broken(plan: Plan) -> Result:
        raise RuntimeError("no backend")

    words = ["bench", "--peers", "gate", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(bench, "WORKLOADS", {"echo-64B-100": missed})
    assert bench.main() == 0
    assert "MISSED" in capsys.readouterr().out
    monkeypatch.setattr(bench, "WORKLOADS", {"echo-64B-100": missed, "other": broken})
    assert bench.main() == 1
    assert "FAILED other: RuntimeError: no backend" in capsys.readouterr().out


def test_an_earlier_run_is_shown_again(tmp_path: Path, monkeypatch, capsys):
    result = Result("burst-8", "bursts", "message", "cpu_us", [{"gate": {"cpu_us": 2.0}}])
    saved = tmp_path / "run.json"
    saved.write_text(Report("2026-01-02 03:04:05", "abc", {}, {}, {}, {}, [result]).dumps())
    monkeypatch.setattr("sys.argv", ["bench", "--show", str(saved), "--out", str(tmp_path)])
    assert bench.main() == 0
    assert "burst-8: bursts" in capsys.readouterr().out
    assert (tmp_path / "bench-20260102-030405.md").exists()
