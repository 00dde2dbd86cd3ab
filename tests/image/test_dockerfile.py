"""The Dockerfiles by a linter, and by what they name: files, commands, ports, the build's switch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy import cli
from tests.backends.launch import ROOT
from tests.image.bases import DOCKERFILE, named

PAGE = ROOT / "docs" / "image.md"
APP = Path(__file__).with_name("app.Dockerfile")


def instructions(name: str, file: Path = DOCKERFILE) -> list[str]:
    """What follows an instruction, wherever it stands; continued lines are joined."""
    text = file.read_text().replace("\\\n", " ")
    return [line.strip() for line in re.findall(rf"^{name}\s+(.*)$", text, re.MULTILINE)]


def copied() -> set[str]:
    """What is copied from the repository."""
    return {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}


def allowed() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    return {line[1:] for line in lines if line.startswith("!")}


@pytest.mark.parametrize("file", [DOCKERFILE, APP], ids=["gate", "app"])
def test_hadolint_has_nothing_to_say(file: Path):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, file], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_is_copied_exists_and_is_all_that_the_build_is_sent():
    assert copied() == allowed()
    assert not [name for name in copied() if not (ROOT / name).exists()]


def test_what_the_wheel_is_made_of_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    metadata = [project["project"]["readme"], *project["project"]["license-files"]]
    assert {*wheel["packages"], *wheel["force-include"], *metadata} <= copied()


def test_the_switch_of_the_compiled_build_is_the_hook_that_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hooks = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    named_hooks = set(re.findall(r"HATCH_BUILD_HOOK_ENABLE_(\w+)", DOCKERFILE.read_text()))
    assert {name.lower() for name in named_hooks} == set(hooks)


def test_every_command_is_in_exec_form_and_one_that_readygate_has():
    (entry,), (default,), (health,) = (instructions(name) for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"))
    check = json.loads(health.partition("CMD ")[2])
    assert json.loads(entry) == ["readygate"]
    for words in (json.loads(default), check[1:]):
        args = cli._parser(words[0], {}).parse_args(words)
        assert callable(args.command)
    assert check[0] == "readygate"


def test_the_port_is_the_one_that_the_gate_listens_on_by_default():
    (port,) = instructions("EXPOSE")
    args = cli._parser("run", {}).parse_args(["run"])
    assert args.listen == f"0.0.0.0:{port}"


def test_both_stages_stand_on_the_same_python_which_the_project_takes():
    bases = named()
    assert bases["BASE"] == f"{bases['BUILD_BASE']}-slim"
    at_least = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert int(re.search(r":3\.(\d+)$", bases["BUILD_BASE"])[1]) >= int(at_least)


def test_it_is_not_run_as_root():
    assert instructions("USER") == ["65532:65532"]
    assert instructions("USER", APP) == ["65532:65532"]


def test_the_page_lists_exactly_the_arguments_secrets_and_variables_of_the_build():
    text = DOCKERFILE.read_text()
    told = set(re.findall(r"^\| `([\w]+)` ", PAGE.read_text(), re.MULTILINE))
    final = text.rpartition("\nFROM ")[2]
    variables = set(re.findall(r"(\w+)=", " ".join(re.findall(r"^ENV .*?[^\\]$", final, re.M | re.S))))
    arguments = {line.partition("=")[0] for line in instructions("ARG")}
    assert told == variables | arguments | set(re.findall(r"type=secret,id=(\w+)", text))
