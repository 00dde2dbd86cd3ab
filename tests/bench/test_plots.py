from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench import plots
from tests.bench.report import Report
from tests.bench.result import Result

PNG = b"\x89PNG"


@pytest.fixture
def report() -> Report:
    taken = {"direct": {"per_s": 1.0}, "gate": {"cpu_us": 12.0}, "nginx": {"cpu_us": 10.0}}
    results = [
        Result(name, "", "message", "cpu_us", [taken]) for name in plots.BY_SIZE | plots.BY_CONNECTIONS
    ]
    samples = {"direct": [1.0, 2.0], "gate": [3.0, 4.0], "classic": [100.0, 130.0]}
    results.append(Result("opening", "", "connection", "reply_ms", [], samples))
    return Report("", "", {}, {}, {}, {}, results)


def test_without_matplotlib_there_are_no_plots_but_a_note(report: Report, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plots.draw(report, tmp_path / "run") == (
        [],
        "matplotlib is not installed, so there are no plots: make bench-setup",
    )
    assert list(tmp_path.iterdir()) == []


def test_with_matplotlib_there_are_three(report: Report, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: make bench-setup")
    paths, note = plots.draw(report, tmp_path / "run")
    assert [path.name for path in paths] == ["run-size.png", "run-connections.png", "run-opening.png"]
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    assert note == ""


def test_a_plot_without_results_is_left_out(report: Report, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: make bench-setup")
    report.results = report.results[-1:]
    paths, _ = plots.draw(report, tmp_path / "run")
    assert [path.name for path in paths] == ["run-opening.png"]
