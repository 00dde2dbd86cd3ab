"""The gate of every manifest, started as the manifest says: it serves, and its probes are answered."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import pytest

from proxy import cli
from proxy.options import RunOptions
from proxy.policy.load import examine
from tests.backends.launch import ROOT, Server
from tests.deploy.manifests import DEPLOY, POLICIES, Gate, commands, gates
from tests.deploy.serving import ask, running

each_gate = pytest.mark.parametrize("gate", gates(), ids=lambda gate: gate.name)
PLATFORMS = {"PORT", "GOOGLE_CLOUD_PROJECT", "K_SERVICE", "KUBERNETES_SERVICE_HOST"}


def variables() -> set[str]:
    """Every environment variable that the gate or its OpenTelemetry SDK reads."""
    of_the_sdk = {
        getattr(module, name)
        for module in (opentelemetry.environment_variables, opentelemetry.sdk.environment_variables)
        for name in dir(module)
        if name.startswith("OTEL_")
    }
    of_ours = {
        name
        for file in (ROOT / "proxy").rglob("*.py")
        for name in re.findall(r"READYGATE_[A-Z_]+", file.read_text())
    }
    return of_the_sdk | of_ours | of_the_flags() | PLATFORMS


def of_the_flags() -> set[str]:
    parser = cli._parser("run", {})
    (commands,) = [action for action in parser._actions if hasattr(action, "choices") and action.choices]
    flags = [name for action in commands.choices["run"]._actions for name in action.option_strings]
    return {
        "READYGATE_" + flag.removeprefix("--").replace("-", "_").upper() for flag in flags if flag != "--help"
    }


@each_gate
def test_every_variable_of_a_manifest_is_one_that_the_gate_reads(gate: Gate):
    assert set(gate.env) <= variables()


@each_gate
def test_a_manifest_is_good_usage_and_its_ports_are_those_that_the_gate_takes(gate: Gate):
    parsed = cli._parser("run", gate.env).parse_args(["run", *gate.args])
    options = RunOptions.parse(parsed, gate.env)
    assert options.listen.port == gate.port
    reachable = options.admin if options.admin and options.admin.host != "127.0.0.1" else None
    assert (reachable.port if reachable else None) == gate.admin_port


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_policy_of_deploy_is_valid_and_begins_with_production(policy: Path):
    reading = examine(str(policy))
    assert not reading.problems
    assert "extends: production" in policy.read_text()


@each_gate
def test_a_gate_started_as_the_manifest_says_answers_each_of_its_probes(gate: Gate):
    with running(gate) as server:
        for path in gate.probes or ("/_readygate/readyz",):
            status, body = ask(server.port, path)
            assert (status, json.loads(body)) == (200, {"status": "ok"}), path
        if gate.admin_port:
            check_scraping(gate, server)
        assert server.stop() == 0


def check_scraping(gate: Gate, server: Server) -> None:
    """As Prometheus asks: with the token, by the name or address that the manifest has it know."""
    host = gate.env.get("READYGATE_ADMIN_HOSTS", "10.0.0.7") + ":9901"
    token = f"Bearer {gate.env['READYGATE_ADMIN_TOKEN']}"
    status, metrics = ask(server.admin_port, "/metrics", Host=host, Authorization=token)
    assert status == 200
    assert b"readygate_sessions_active" in metrics
    assert ask(server.admin_port, "/metrics", Host=host)[0] == 401


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("*.md")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_file_of_deploy_that_a_command_of_a_page_names_exists(page: Path):
    for line in commands(page):
        for word in shlex.split(line, comments=True):
            for path in re.findall(r"(?:^|[=@:])(deploy/[\w./-]+)", word):
                assert (ROOT / path).exists() or path.endswith("token.env"), line
