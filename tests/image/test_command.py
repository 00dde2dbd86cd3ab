"""`make image-test` without an engine: what it says when it cannot, what it lends a build, how it counts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.launch import ROOT
from tests.image import building, checks, engine
from tests.image.row import Row, failed, table


def test_a_missing_tool_is_one_line_with_the_packages_and_exit_2(tmp_path):
    command = [sys.executable, "-m", "tests.image", "--quick"]
    env = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"image-test: not installed: .*apt-get install buildah podman .*\n", done.stderr)


def test_a_program_that_fails_or_hangs_is_told_with_what_it_said():
    with pytest.raises(engine.FailedError, match="exit 3\nso it goes"):
        engine.run([sys.executable, "-c", "print('so it goes'); raise SystemExit(3)"])
    with pytest.raises(engine.FailedError, match=r"not done within 0\.1 s"):
        engine.run([sys.executable, "-c", "import signal; signal.pause()"], bound_s=0.1)
    assert engine.run([sys.executable, "-c", "raise SystemExit(3)"], may_fail=True) == ""


def test_settings_of_pip_are_lent_as_a_file_and_stand_on_no_command_line(monkeypatch, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.example.com/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///opt/index https://more.example.com/simple")
    monkeypatch.setenv("PIP_CERT", str(authority))
    with building.secrets() as words:
        assert "example.com" not in " ".join(words)
        file = Path(words[-1].partition("src=")[2])
        text = file.read_text()
        assert file.stat().st_mode & 0o077 == 0
    assert "index-url = https://user:secret@index.example.com/simple\n" in text
    assert "extra-index-url = https://more.example.com/simple\n" in text
    assert "cert = /run/secrets/ca\n" in text
    assert f"id=ca,src={authority}" in words
    assert not file.exists()


def test_a_table_marks_what_is_wrong():
    rows = [Row("size", "1 MB"), Row("health", "no", well=False), Row("user", "65532", well=True)]
    assert table(rows).splitlines() == ["      size    1 MB", "WRONG health  no", "ok    user    65532"]
    assert failed(rows) == [rows[1]]


@pytest.mark.parametrize(
    "text",
    [
        '["PIP_INDEX_URL=https://index.example.com/simple"]',
        '["RUN pip install --index-url https://user:secret@index.example.com/simple aiohttp"]',
    ],
)
def test_an_index_in_an_images_history_is_found(text):
    assert "index.example.com" in checks.addresses(text)
