"""Kubernetes: what the overlays come to is valid, stops in the right order, and leaves one way in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from proxy.policy import load as load_policy
from tests.backends.launch import MissingToolError, installed
from tests.deploy.manifests import KUBERNETES, Node, load, named, pod_of
from tests.telemetry.reports import telemetry

FOLDERS = ("base", "gate", "entry", "scaled")
PATCHES = {"gate/deployment.yaml", "entry/service.yaml", "scaled/deployment.yaml"}
NOT_RESOURCES = {"kustomization.yaml", "policy.yaml", "adapter-values.yaml"}
OLDEST = "1.30"  # preStop.sleep is on by default from here on
NEWEST_TOO_OLD = 20  # kubectl up to here has kustomize 2.0, which reads these files otherwise
CONTAINER_TIMES_S = {"gate": 5, "app": 35}


def resources(text: str) -> list[Node]:
    return [each for each in yaml.safe_load_all(text) if each]


def whole_files() -> list[Path]:
    files = sorted(KUBERNETES.rglob("*.yaml"))
    return [
        path
        for path in files
        if path.name not in NOT_RESOURCES and str(path.relative_to(KUBERNETES)) not in PATCHES
    ]


def check(resource: Node, version: str) -> None:
    if resource["apiVersion"] != "monitoring.coreos.com/v1":  # not Kubernetes' own
        kubernetes_validate.validate(resource, version, strict=True)


def versions() -> list[str]:
    newest = kubernetes_validate.latest_version()
    return [OLDEST, ".".join(newest.split(".")[:2])]


@pytest.fixture(scope="module")
def kubectl() -> str:
    """A kubectl whose kustomize reads these files. Without one: a skip, in CI too (Debian 12's is old)."""
    try:
        program = installed("kubectl")
    except MissingToolError as missing:
        pytest.skip(f"{missing}: the overlays are not rendered; their files are checked one by one")
    told = subprocess.run(
        [program, "version", "--client", "-o", "json"], capture_output=True, timeout=30, check=True
    )
    minor = int(re.sub(r"\D.*", "", json.loads(told.stdout)["clientVersion"]["minor"]))
    if minor <= NEWEST_TOO_OLD:
        pytest.skip(
            f"kubectl 1.{minor} is too old for these kustomizations: their files are checked one by one"
        )
    return program


@pytest.fixture(scope="module")
def rendered(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Node]]:
    """What `kubectl kustomize` makes of each folder."""
    room = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(KUBERNETES, room)
    shutil.copy(room / "scaled/token.env.example", room / "scaled/token.env")
    told = {}
    for folder in FOLDERS:
        words = [kubectl, "kustomize", str(room / folder)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "kustomize warns"
        told[folder] = resources(done.stdout)
    return told


def one(found: list[Node], kind: str, name: str = "chat") -> Node:
    (resource,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return resource


def patched() -> Node:
    """The patch of the Deployment: all that is said of the gate and of stopping."""
    return load(KUBERNETES / "gate/deployment.yaml")


# -- each file by itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", whole_files(), ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_a_file_is_valid_strictly_for_the_oldest_and_the_newest_version(path: Path):
    for resource in resources(path.read_text()):
        for version in versions():
            check(resource, version)


def test_validation_refuses_a_key_that_kubernetes_does_not_know():
    wrong = load(KUBERNETES / "base/deployment.yaml")
    pod_of(wrong)["terminationGracePeriodSecond"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        check(wrong, OLDEST)


def test_the_app_outlives_the_gates_drain_and_the_kubelet_waits_for_both():
    pod = pod_of(patched())
    sleeps = {each["name"]: each["lifecycle"]["preStop"]["sleep"]["seconds"] for each in pod["containers"]}
    drain = yaml.safe_load(load_policy(str(KUBERNETES / "gate/policy.yaml")).dump())["drain"]
    gone_s = sleeps["gate"] + drain["grace_s"]
    assert sleeps == CONTAINER_TIMES_S, "README.md tells these times"
    assert sleeps["gate"] >= 5, "endpoints take a moment to hear of it"
    assert gone_s < sleeps["app"]
    assert sleeps["app"] + 10 <= pod["terminationGracePeriodSeconds"], "the app needs time of its own"


def test_the_gate_runs_with_no_right_that_it_does_not_need():
    gate = named(pod_of(patched())["containers"], "gate")
    context = gate["securityContext"]
    assert context["runAsNonRoot"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert (context["runAsUser"], context["capabilities"]) == (65532, {"drop": ["ALL"]})
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "cpu" not in gate["resources"]["limits"], "throttling holds up every session at once"


def test_what_a_gate_may_hold_fits_into_its_memory():
    held = yaml.safe_load(load_policy(str(KUBERNETES / "gate/policy.yaml")).dump())["limits"][
        "early_bytes_total"
    ]
    limit = named(pod_of(patched())["containers"], "gate")["resources"]["limits"]["memory"]
    assert held <= int(limit.removesuffix("Mi")) * 2**20 / 2


def test_the_autoscaler_goes_by_a_metric_that_the_gate_has_and_the_adapter_makes():
    metrics = load(KUBERNETES / "scaled/autoscaler.yaml")["spec"]["metrics"]
    (name,) = [each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods"]
    assert f"# TYPE {name} gauge" in telemetry().metrics.prometheus()
    (rule,) = load(KUBERNETES / "scaled/adapter-values.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(name + "{")
    assert re.fullmatch(rule["name"]["matches"], name)


def test_prometheus_finds_the_admin_port_the_token_and_the_job_that_the_alerts_go_by():
    found = resources((KUBERNETES / "scaled/metrics.yaml").read_text())
    service, monitor = one(found, "Service", "chat-gate-admin"), one(found, "ServiceMonitor", "chat-gate")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "readygate"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    key = endpoint["authorization"]["credentials"]
    gate = named(pod_of(load(KUBERNETES / "scaled/deployment.yaml"))["containers"], "gate")
    assert named(gate["env"], "READYGATE_ADMIN_TOKEN")["valueFrom"]["secretKeyRef"] == key


# -- what kustomize makes of them ---------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_an_overlay_comes_to_is_valid_strictly(rendered: dict[str, list[Node]], folder: str):
    for resource in rendered[folder]:
        for version in versions():
            check(resource, version)


def test_the_overlay_adds_the_gate_and_leaves_the_app_as_it_was(rendered: dict[str, list[Node]]):
    before, after = (pod_of(one(rendered[folder], "Deployment")) for folder in ("base", "gate"))
    (app,) = before["containers"]
    assert {each["name"] for each in after["containers"]} == {"app", "gate"}
    assert named(after["containers"], "app") == app | {"lifecycle": {"preStop": {"sleep": {"seconds": 35}}}}
    assert "initContainers" not in after, "a native sidecar would hear of the stop after the app is gone"
    assert named(after["containers"], "gate")["image"] == "ghcr.io/OWNER/readygate:0.x"


def test_the_first_step_changes_nothing_for_clients(rendered: dict[str, list[Node]]):
    """Pods without a gate would be cut off by a Service or a policy that names its port."""
    assert one(rendered["gate"], "Service") == one(rendered["base"], "Service")
    assert not [each for each in rendered["gate"] if each["kind"] == "NetworkPolicy"]
    assert one(rendered["entry"], "Deployment") == one(rendered["gate"], "Deployment"), "step 2 is no rollout"


def test_then_clients_reach_the_gate_and_nothing_else(rendered: dict[str, list[Node]]):
    for folder in ("entry", "scaled"):
        found = rendered[folder]
        assert [port["targetPort"] for port in one(found, "Service")["spec"]["ports"]] == ["gate"]
        (rule,) = one(found, "NetworkPolicy")["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == ["gate"]
    admin = one(rendered["scaled"], "NetworkPolicy", "chat-gate-admin")["spec"]["ingress"]
    assert all(rule["from"] for rule in admin), "an empty `from` is everybody"


def test_ports_and_volumes_that_are_named_are_there(rendered: dict[str, list[Node]]):
    for folder in ("entry", "scaled"):
        pod = pod_of(one(rendered[folder], "Deployment"))
        volumes = {volume["name"] for volume in pod["volumes"]}
        ports = {port["name"] for container in pod["containers"] for port in container["ports"]}
        gate = named(pod["containers"], "gate")
        assert {mount["name"] for mount in gate["volumeMounts"]} == volumes
        policies = [each for each in rendered[folder] if each["kind"] == "NetworkPolicy"]
        asked = {
            port["port"] for each in policies for rule in each["spec"]["ingress"] for port in rule["ports"]
        }
        assert asked <= ports
        (held,) = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
        assert "policy.yaml" in one(rendered[folder], "ConfigMap", held)["data"]
