"""readygate.service: systemd takes it, it is well locked up, and it stops in the right order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from proxy.policy import load as load_policy
from tests.backends.launch import MissingToolError, installed
from tests.deploy.manifests import SYSTEMD, unit

EXPOSURE = 20  # of 100 (2.0 of 10): what systemd calls OK begins below 5.0
UNIT = SYSTEMD / "readygate.service"


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run it, or skip: outside of Linux with systemd it cannot be had, in CI either."""
    try:
        program = installed("systemd-analyze")
    except MissingToolError as missing:
        pytest.skip(f"{missing}: the unit is not verified by systemd itself")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path):
    text = UNIT.read_text().replace("/opt/readygate/bin/readygate", sys.executable)
    path = tmp_path / UNIT.name
    path.write_text(text.replace("chat.service", ""))  # yours, not here
    done = systemd_analyze("verify", str(path))
    if "Failed to initialize" in done.stderr:
        pytest.skip(f"systemd-analyze verify does not run here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_is_exposed_no_more_than_it_has_to_be():
    done = systemd_analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is older than 250 and knows no --offline")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stop_reaches_the_supervisor_alone_and_waits_for_the_drain():
    (drain,) = [yaml.safe_load(load_policy(str(SYSTEMD / "policy.yaml")).dump())["drain"]]
    assert drain["grace_s"] < int(unit()["TimeoutStopSec"][0])
    assert unit()["KillMode"] == ["mixed"], "a second SIGTERM ends workers at once"
    assert any("chat.service" in after for after in unit()["After"]), "what is started later is stopped first"
    assert not {"Requires", "BindsTo", "PartOf"} & set(unit()), (
        "a backend that restarts must not take the gate with it"
    )


def test_bad_usage_is_not_tried_again_and_there_are_descriptors_for_sessions():
    assert unit()["RestartPreventExitStatus"] == ["2"]
    assert int(unit()["LimitNOFILE"][0]) >= 65536
