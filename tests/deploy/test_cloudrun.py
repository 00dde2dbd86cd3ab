"""Cloud Run: the service files are what the API knows, and keep to the platform's rules for containers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from proxy.policy import load as load_policy
from tests.backends.launch import ROOT, free_port, ready, start
from tests.deploy.draw_schemas import V1
from tests.deploy.manifests import CLOUD_RUN, Node, commands, load, named

SERVICES = ("service.yaml", "service-eager.yaml")
each_service = pytest.mark.parametrize("file", SERVICES)
START_BOUND_S = 240  # the most that the platform waits for a container


def template(file: str) -> Node:
    return load(CLOUD_RUN / file)["spec"]["template"]


def containers(file: str) -> list[Node]:
    return template(file)["spec"]["containers"]


def dependencies(file: str) -> dict[str, list[str]]:
    return json.loads(
        template(file)["metadata"]["annotations"].get("run.googleapis.com/container-dependencies", "{}")
    )


@each_service
def test_a_service_file_has_only_what_the_api_knows(file: str):
    jsonschema.validate(load(CLOUD_RUN / file), json.loads(V1.read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda spec: spec["spec"]["template"]["metadata"]["annotations"].update(
            {"run.googleapis.com/session-affinity": "true"}
        ),
        lambda spec: spec["metadata"]["annotations"].update({"run.googleapis.com/cpu-throttling": "false"}),
        lambda spec: spec["spec"]["template"]["spec"]["containers"][0]["startupProbe"].update(
            failureTreshold=3
        ),
        lambda spec: spec["spec"]["template"]["spec"]["containers"][0].update(securityContext={}),
        lambda spec: spec["spec"]["template"]["spec"].update(timeoutSeconds="3600"),
        lambda spec: spec["spec"]["template"]["metadata"]["annotations"].update(
            {"autoscaling.knative.dev/minScale": 1}
        ),
    ],
    ids=[
        "unknown-annotation",
        "annotation-of-a-revision",
        "unknown-key",
        "not-supported",
        "text-for-a-number",
        "number-for-a-text",
    ],
)
def test_the_schema_refuses_what_the_api_refuses(wrong):
    spec = load(CLOUD_RUN / "service.yaml")
    wrong(spec)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, json.loads(V1.read_text()))


@each_service
def test_the_command_of_the_readme_fills_in_every_name_and_nothing_else(file: str):
    (line,) = [line for line in commands(CLOUD_RUN / "README.md") if line.startswith("sed ")]
    line = line.partition(" >")[0].replace("service.yaml", file)
    names = {"REGION": "europe-west1", "PROJECT": "a-project", "REPO": "images", "PATH": os.environ["PATH"]}
    words = ["sh", "-c", line]
    done = subprocess.run(words, cwd=ROOT, env=names, capture_output=True, text=True, timeout=20, check=True)
    made = yaml.safe_load(done.stdout)
    jsonschema.validate(made, json.loads(V1.read_text()))
    assert not re.search(r"REGION|PROJECT_ID|REPO", json.dumps(made))
    gate = named(made["spec"]["template"]["spec"]["containers"], "gate")
    assert gate["image"] == "europe-west1-docker.pkg.dev/a-project/images/readygate:0.x"
    assert named(gate["env"], "GOOGLE_CLOUD_PROJECT")["value"] == "a-project"


@each_service
def test_exactly_one_container_has_ports_and_it_is_the_gate_without_http2(file: str):
    with_ports = [container for container in containers(file) if "ports" in container]
    assert [container["name"] for container in with_ports] == ["gate"]
    assert [port["name"] for port in with_ports[0]["ports"]] == ["http1"]
    assert "PORT" not in {each["name"] for each in with_ports[0]["env"]}, "the platform sets it"


@each_service
def test_no_two_containers_of_an_instance_listen_on_one_port(file: str):
    gate, app = (named(containers(file), name) for name in ("gate", "app"))
    told = {each["name"]: each["value"] for each in gate["env"] + app["env"]}
    assert told["READYGATE_UPSTREAM"] == f"http://127.0.0.1:{told['PORT']}"
    assert app["startupProbe"]["tcpSocket"]["port"] == int(told["PORT"])
    assert int(told["PORT"]) != gate["ports"][0]["containerPort"]


@each_service
def test_what_is_depended_on_has_a_startup_probe(file: str):
    names = {container["name"]: container for container in containers(file)}
    for dependent, wanted in dependencies(file).items():
        assert dependent in names
        assert all("startupProbe" in names[name] for name in wanted)


def test_one_service_waits_for_the_app_and_the_other_holds_clients_meanwhile():
    assert dependencies("service.yaml") == {"gate": ["app"]}
    assert dependencies("service-eager.yaml") == {}
    assert "accept: eager" in load_policy(str(CLOUD_RUN / "policy-eager.yaml")).dump()
    assert "accept: mirrored" in load_policy(str(CLOUD_RUN / "policy.yaml")).dump()


@each_service
def test_probes_keep_to_what_the_platform_takes(file: str):
    for container in containers(file):
        startup = container["startupProbe"]
        assert startup["timeoutSeconds"] <= startup["periodSeconds"]
        assert startup["periodSeconds"] * startup["failureThreshold"] <= START_BOUND_S
        assert "tcpSocket" not in container.get("livenessProbe", {}), "liveness probes are HTTP or gRPC"


@each_service
def test_volumes_that_are_mounted_are_there_and_name_a_version(file: str):
    volumes = {volume["name"]: volume for volume in template(file)["spec"]["volumes"]}
    mounted = {mount["name"] for container in containers(file) for mount in container.get("volumeMounts", [])}
    assert mounted == set(volumes)
    assert all(item["key"].isdecimal() for volume in volumes.values() for item in volume["secret"]["items"])


@pytest.mark.parametrize(
    ("file", "policy"), [("service.yaml", "policy.yaml"), ("service-eager.yaml", "policy-eager.yaml")]
)
def test_sessions_end_before_the_platform_cuts_them_and_a_drain_before_it_kills(file: str, policy: str):
    effective = yaml.safe_load(load_policy(str(CLOUD_RUN / policy)).dump())
    assert effective["session"]["max_s"] + 60 <= template(file)["spec"]["timeoutSeconds"] <= 3600
    assert effective["drain"]["grace_s"] < 10
    assert effective["http"]["trusted_hops"] == 1
    memory = named(containers(file), "gate")["resources"]["limits"]["memory"]
    assert effective["limits"]["early_bytes_total"] <= int(memory.removesuffix("Mi")) * 2**20 / 2


def test_every_part_of_the_collectors_pipelines_is_configured():
    config = load(CLOUD_RUN / "collector.yaml")
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(config[kind])
    gate = {each["name"]: each["value"] for each in named(containers("service.yaml"), "gate")["env"]}
    at = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert gate["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{at}"
    probed = named(containers("service.yaml"), "collector")["startupProbe"]["httpGet"]["port"]
    assert config["extensions"]["health_check"]["endpoint"].endswith(f":{probed}")


# -- the shell that lets an app outlive the gate ------------------------------------------------------------

APP = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""


def recipe(app: str, waits: str) -> str:
    """The lines of README.md, for another app and another wait than 8 seconds."""
    block = re.search(
        r"^command: \[sh, -c\]\n.*?(?=^```)", (CLOUD_RUN / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert block
    (text,) = yaml.safe_load(block[0])["args"]
    command = re.search(r"^.*(?= & app=)", text, re.MULTILINE)
    assert command
    assert "sleep 8;" in text
    return text.replace(command[0], app).replace("sleep 8;", f"{waits};")


def test_the_shell_of_the_readme_keeps_the_app_for_a_while_after_sigterm_and_then_ends_it(tmp_path: Path):
    os.mkfifo(tmp_path / "enough")
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    shell = recipe(f"{sys.executable} {tmp_path}/app.py {port}", f"cat {tmp_path}/enough")
    with ready(start("app", ["sh", "-c", shell], port=port)) as server:
        server.process.send_signal(signal.SIGTERM)
        with (tmp_path / "enough").open("w"):  # waits until the shell waits
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        assert server.process.wait(10) == 128 + signal.SIGTERM
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("code", [0, 3])
def test_the_shell_of_the_readme_ends_as_an_app_that_ends_by_itself(code: int):
    done = subprocess.run(["sh", "-c", recipe(f"sh -c 'exit {code}'", "true")], timeout=20, check=False)
    assert done.returncode == code
