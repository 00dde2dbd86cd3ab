"""compose.yaml: valid, its parts find each other, and its app is served through its gate."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from proxy.policy import load as load_policy
from tests.backends.launch import environment, free_port, ready, start
from tests.collectors.prometheus import promtool
from tests.deploy.manifests import COMPOSE, DEPLOY, Node, compose, load
from tests.deploy.serving import running
from tests.integration.conftest import skipping

WHOLE = load(COMPOSE)
SERVICES: dict[str, Node] = WHOLE["services"]


def mounted(service: str) -> dict[str, Path]:
    """{path in the container: file of ours}."""
    return {
        each["target"]: DEPLOY / WHOLE["configs"][each["source"]]["file"]
        for each in SERVICES[service].get("configs", [])
    }


def test_the_file_is_what_the_compose_specification_has():
    words = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_that_is_mounted_exists_and_is_used():
    used = {each["source"] for service in SERVICES.values() for each in service.get("configs", [])}
    assert used == set(WHOLE["configs"])
    assert all((DEPLOY / config["file"]).is_file() for config in WHOLE["configs"].values())


def test_the_gate_is_stopped_before_the_app_and_has_time_to_drain():
    assert SERVICES["gate"]["depends_on"] == ["app"], "compose stops in reverse order"
    grace_s = yaml.safe_load(load_policy(str(mounted("gate")["/etc/readygate/policy.yaml"])).dump())["drain"][
        "grace_s"
    ]
    assert grace_s < int(SERVICES["gate"]["stop_grace_period"].removesuffix("s"))


def test_only_the_gate_is_on_the_way_to_the_app_and_no_port_is_open_to_others():
    assert "ports" not in SERVICES["app"]
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_services_that_are_named_in_addresses_are_there_and_listen():
    texts = [yaml.safe_dump(SERVICES)] + [
        path.read_text() for name in SERVICES for path in mounted(name).values() if path.suffix == ".yaml"
    ]
    hosts = {host for text in texts for host in re.findall(r"http://([a-z]+):\d+", text)}
    assert hosts == {"app", "collector", "prometheus"}
    receiver = load(mounted("collector")["/etc/otelcol/config.yaml"])["receivers"]["otlp"]["protocols"][
        "http"
    ]["endpoint"]
    assert (
        SERVICES["gate"]["environment"]["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        == f"http://collector:{receiver.rpartition(':')[2]}/v1/traces"
    )


def test_every_part_of_the_collectors_pipelines_is_configured():
    config = load(mounted("collector")["/etc/otelcol/config.yaml"])
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(config[kind])


def test_prometheus_takes_its_configuration_with_the_alerts_beside_it(tmp_path: Path):
    for target, source in mounted("prometheus").items():
        (tmp_path / Path(target).name).write_text(source.read_text())
    (secret,) = SERVICES["prometheus"]["secrets"]
    config = load(tmp_path / "prometheus.yaml")
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "readygate", "the alerts go by it"
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret['target']}"
    assert job["static_configs"][0]["targets"] == [
        f"{SERVICES['gate']['environment']['READYGATE_ADMIN_HOSTS']}:9901"
    ]
    with skipping():
        promtool("check", "config", "--syntax-only", str(tmp_path / "prometheus.yaml"))
        promtool("check", "rules", str(tmp_path / "alerts.yaml"))


def test_grafana_finds_the_dashboard_and_where_its_figures_are():
    files = mounted("grafana")
    (provider,) = load(files["/etc/grafana/provisioning/dashboards/readygate.yaml"])["providers"]
    assert f"{provider['options']['path']}/readygate.json" in files
    (source,) = load(files["/etc/grafana/provisioning/datasources/prometheus.yaml"])["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True), "the dashboard takes any Prometheus"


def test_the_app_of_compose_is_served_through_its_gate(run):
    port = free_port()
    # The command of its image.
    command = yaml.safe_load(
        re.search(r"^CMD (.*)$", SERVICES["app"]["build"]["dockerfile_inline"], re.MULTILINE)[1]
    )
    words = [
        sys.executable,
        "-m",
        *command[:-1],
        str(port),
        "--app-dir",
        str(DEPLOY / "compose"),
        "--log-level",
        "warning",
    ]

    async def talk(at: int) -> tuple[str, str]:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{at}") as client:
            async with client.get("/") as answer:
                text = await answer.text()
            async with client.ws_connect("/ws") as socket:
                await socket.send_str("hello")
                return text, (await socket.receive(timeout=10)).data

    with (
        ready(start("app", words, port=port, env=environment())),
        running(compose(), READYGATE_UPSTREAM=f"http://127.0.0.1:{port}") as gate,
    ):
        assert run(talk(gate.port)) == ("a WebSocket is at /ws\n", "hello")


@pytest.mark.parametrize("service", ["collector", "prometheus", "grafana"])
def test_images_have_versions(service: str):
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])
