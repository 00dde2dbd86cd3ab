"""The fuzzing itself: a broken promise is found, made short, kept, told, and can be seen again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import engine, target
from tests.fuzz.engine import Outcome
from tests.fuzz.mutation import mutated, shortest
from tests.fuzz.target import Target


def no_bug(data: bytes) -> None:
    assert b"bug" not in data, "a bug"


PLANTED = Target("planted", no_bug, tokens=(b"bug",))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A target whose promise is easily broken, with one seed, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds/planted").mkdir(parents=True)
    (tmp_path / "seeds/planted/one.hex").write_text("61 62 0a  # a and b\n63 64\n")
    monkeypatch.setattr(target, "SEEDS", tmp_path / "seeds")
    monkeypatch.setattr(target, "NAMES", ("planted",))
    monkeypatch.setattr(target, "target", lambda _: PLANTED)
    return PLANTED


def test_a_broken_promise_is_found_made_short_kept_and_can_be_seen_again(planted):
    outcome = engine.fuzz("planted", "chance", seconds=60, seed=1)
    assert outcome.why == "AssertionError: a bug\nassert b'bug' not in b'bug'"
    assert outcome.finding is not None
    assert Path(outcome.finding).read_bytes() == b"bug"
    assert "no_bug" in Path(outcome.finding).with_suffix(".txt").read_text()
    with pytest.raises(AssertionError, match="a bug"):
        command.replay(Path(outcome.finding))


def test_a_seed_that_breaks_a_promise_is_a_finding_before_chance_has_its_turn(planted):
    (target.SEEDS / "planted/two.bin").write_bytes(b"xxxbugxxx")
    outcome = engine.fuzz("planted", "chance", seconds=60, seed=1)
    assert (outcome.inputs, Path(outcome.finding or "").read_bytes()) == (2, b"bug")


def test_a_target_that_keeps_its_promise_ends_when_its_time_is_over(planted, monkeypatch):
    monkeypatch.setattr(target, "target", lambda _: Target("planted", lambda _: None))
    outcome = engine.fuzz("planted", "chance", seconds=0.05, seed=1)
    assert outcome.finding is None
    assert outcome.inputs > 1


def test_findings_make_the_exit_code_1_and_say_how_to_see_them_again(planted, monkeypatch, capsys):
    found = Outcome("planted", "chance", 3, 1.0, "fuzz-results/planted/x.bin", "AssertionError: a bug")
    monkeypatch.setattr(command, "child", lambda *_: found)
    assert command.run(["planted"], None, 1.0, 1) == 1
    told = capsys.readouterr().out
    assert "3 inputs tried" in told
    assert "python -m tests.fuzz --replay fuzz-results/planted/x.bin" in told


def test_a_process_that_dies_is_a_finding(planted, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = command.child("planted", "chance", 1.0, 1)
    assert outcome.why.startswith("the process ended with 1")


def test_an_input_that_hangs_is_a_finding(monkeypatch):
    monkeypatch.setattr(engine, "HANG_S", 0.01)

    def endless(data: bytes) -> None:
        while True:
            pass

    assert isinstance(engine.broken(Target("endless", endless), b""), engine.HungError)


def test_the_same_seed_number_makes_the_same_inputs():
    made = [[mutated(PLANTED, [b"a\nb\n", b"c"], random.Random(7)) for _ in range(20)] for _ in range(2)]
    assert made[0] == made[1]


def test_what_is_made_short_still_breaks_the_same():
    assert (
        shortest(
            b"a" * 100 + b"<" + b"b" * 50 + b">" + b"c" * 9, lambda data: b"<" in data and b">" in data, 10
        )
        == b"<>"
    )


def test_a_file_whose_folder_is_no_target_is_told_from_one_that_is(tmp_path, capsys):
    assert command.replay(tmp_path / "x.bin") == 2
    assert "walker" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["chance", "atheris"])
def test_a_short_run_of_the_command_prints_what_it_tried(how, tmp_path):
    if how == "atheris":
        pytest.importorskip("atheris")
    words = ["-m", "tests.fuzz", "--child", "trace", "--engine", how, "--seconds", "0.1", "--seed", "1"]
    path = {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        cwd=tmp_path,
        env=path,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["engine"] == how
    # atheris may have time for one only; by chance is what comes after all seeds
    assert told["inputs"] > (len(target.seed_files("trace")) if how == "chance" else 0)
    assert told["finding"] is None
