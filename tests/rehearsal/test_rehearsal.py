"""The rehearsal itself, small: two pairs, each replaced once. How long anything took is not judged here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends import launch
from tests.integration.conftest import skipping
from tests.rehearsal.__main__ import main

HANG_S = 150


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m tests.rehearsal` with its results in a room of the test's own."""
    running = []
    with skipping():
        launch.installed("haproxy")

    def started(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.rehearsal", *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(launch.ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.timeout(HANG_S + 10)
def test_two_pairs_are_replaced_and_every_acknowledged_message_is_there(rehearsal, tmp_path: Path):
    process = rehearsal("--quick", "--sessions", "60", "--every", "1", "--slack", "30")
    told, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, told
    (path,) = (tmp_path / "rehearsal-results").iterdir()
    seen = json.loads(path.read_text())
    assert [roll["held"] for roll in seen["rolls"]] == [30, 30]
    assert [away["codes"] for away in seen["aways"]] == [{"1012": 30}, {"1012": 30}]
    assert seen["messages"]["recorded"] == seen["messages"]["said"] > 120


def test_without_haproxy_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rehearsal"])
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert main() == 2
    assert "haproxy is not installed (Debian: apt install haproxy)" in capsys.readouterr().err
