"""What the manifests under deploy/ say of the gate: its variables, files, ports and probes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
import yaml
from hcl2.utils import SerializationOptions

from tests.backends.launch import ROOT

DEPLOY = ROOT / "deploy"
CLOUD_RUN = DEPLOY / "cloudrun"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = DEPLOY / "compose.yaml"
SYSTEMD = DEPLOY / "systemd"
TERRAFORM = DEPLOY / "terraform" / "cloudrun"
POLICIES = sorted(DEPLOY.rglob("policy*.yaml"))
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Node = dict[str, Any]


@dataclass(frozen=True)
class Gate:
    """The gate as one manifest runs it. `files`: where the container finds what of ours."""

    name: str
    env: dict[str, str]
    args: tuple[str, ...] = ()
    port: int = 8080
    admin_port: int | None = None
    probes: tuple[str, ...] = ()
    files: tuple[tuple[str, Path], ...] = ()

    @property
    def policy(self) -> Path:
        return dict(self.files)[self.env["READYGATE_POLICY"]]


def load(path: Path) -> Node:
    return yaml.safe_load(path.read_text())


def named(items: list[Node], name: str) -> Node:
    (found,) = [item for item in items if item["name"] == name]
    return found


def in_code_of(page: Path, pattern: str) -> dict[str, str]:
    """What a pattern with two groups finds in a page: {first: second}."""
    return dict(re.findall(pattern, page.read_text(), re.MULTILINE))


def commands(page: Path) -> list[str]:
    """The command lines of a page's shell blocks, continued lines joined."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


# -- Cloud Run ----------------------------------------------------------------------------------------------


def cloud_run(file: str) -> Gate:
    """`file`: of deploy/cloudrun. What is in its secrets, README.md says, where it makes them."""
    spec = load(CLOUD_RUN / file)["spec"]["template"]["spec"]
    gate = named(spec["containers"], "gate")
    made = in_code_of(CLOUD_RUN / "README.md", r"^gcloud secrets create (\S+) .*--data-file=(\S+)")
    files = [
        (f"{mount['mountPath']}/{item['path']}", ROOT / made[secret["secretName"]])
        for mount in gate["volumeMounts"]
        for secret in [named(spec["volumes"], mount["name"])["secret"]]
        for item in secret["items"]
    ]
    (port,) = [each["containerPort"] for each in gate["ports"]]
    # What the platform says itself.
    env = {each["name"]: each["value"] for each in gate["env"]} | {"PORT": str(port), "K_SERVICE": "chat"}
    return Gate(file, env, tuple(gate.get("args", ())), port, None, tuple(http_probes(gate)), tuple(files))


def http_probes(container: Node) -> Iterator[str]:
    """The paths of a container's probes; all of them ask for the gate's main port."""
    ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
    for kind in PROBES:
        if kind in container:
            asked = container[kind]["httpGet"]
            assert ports.get(asked["port"], asked["port"]) == 8080, kind
            yield asked["path"]


# -- Kubernetes ---------------------------------------------------------------------------------------------


def kubernetes(folder: str) -> Gate:
    """`folder`: gate or scaled. The patches have all of the container: nothing has to be rendered."""
    gate: Node = {"env": [], "ports": []}
    for layer in ("gate", "scaled")[: 1 if folder == "gate" else 2]:
        patch = named(pod_of(load(KUBERNETES / layer / "deployment.yaml"))["containers"], "gate")
        gate = gate | patch | {key: gate[key] + patch[key] for key in ("env", "ports")}
    env = {
        each["name"]: each.get("value") or secret(each["valueFrom"]["secretKeyRef"]) for each in gate["env"]
    }
    admin = [port["containerPort"] for port in gate["ports"] if port["name"] == "admin"]
    files = [("/etc/readygate/policy.yaml", KUBERNETES / "gate" / "policy.yaml")]
    ports = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    return Gate(
        folder, env | ports, (), 8080, admin[0] if admin else None, tuple(http_probes(gate)), tuple(files)
    )


def pod_of(deployment: Node) -> Node:
    return deployment["spec"]["template"]["spec"]


def secret(reference: Node) -> str:
    """The example's value of a Secret."""
    example = dict(
        line.split("=", 1) for line in (KUBERNETES / "scaled/token.env.example").read_text().split()
    )
    return example[reference["key"]]


# -- compose, systemd, Terraform ----------------------------------------------------------------------------


def compose() -> Gate:
    whole = load(COMPOSE)
    gate = whole["services"]["gate"]
    env = {
        name: re.sub(r"\$\{\w+:\?[^}]*\}", "a-token-of-a-test", value)
        for name, value in gate["environment"].items()
    }
    files = [(each["target"], DEPLOY / whole["configs"][each["source"]]["file"]) for each in gate["configs"]]
    (published,) = gate["ports"]
    return Gate("compose", env, (), int(published.rpartition(":")[2]), 9901, (), tuple(files))


def unit() -> dict[str, list[str]]:
    """The settings of readygate.service, in order."""
    told: dict[str, list[str]] = {}
    for line in (SYSTEMD / "readygate.service").read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            told.setdefault(key, []).append(value)
    return told


def systemd() -> Gate:
    lines = (SYSTEMD / "readygate.env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    program, command, *args = unit()["ExecStart"][0].split()
    assert Path(program).name == "readygate"
    assert command == "run"
    files = (("/etc/readygate/policy.yaml", SYSTEMD / "policy.yaml"),)
    return Gate("systemd", env, tuple(args), int(env["READYGATE_LISTEN"].rpartition(":")[2]), None, (), files)


PLAIN = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)


def terraform(file: str) -> Node:
    """A parsed file of the module. What is no literal reads `${…}`."""
    with (TERRAFORM / file).open() as text:
        return hcl2.load(text, serialization_options=PLAIN)


def terraform_service() -> Node:
    kinds = [
        resource for resource in terraform("main.tf")["resource"] if "google_cloud_run_v2_service" in resource
    ]
    return kinds[0]["google_cloud_run_v2_service"]["this"]


def terraform_gate() -> Gate:
    """The gate of the module, with the defaults of its variables."""
    (template,) = terraform_service()["template"]
    gate = named(template["containers"], "gate")
    env = {each["name"]: with_defaults(str(each["value"])) for each in gate["env"]}
    probes = [gate[kind][0]["http_get"][0]["path"] for kind in ("startup_probe", "liveness_probe")]
    files = (("/etc/readygate/policy.yaml", CLOUD_RUN / "policy.yaml"),)
    return Gate(
        "terraform", env | {"PORT": "8080", "K_SERVICE": "chat"}, (), 8080, None, tuple(probes), files
    )


def with_defaults(text: str) -> str:
    """The text with the variables' defaults put in; one without default by its name."""
    defaults = {
        name: body.get("default", name)
        for each in terraform("variables.tf")["variable"]
        for name, body in each.items()
    }
    return re.sub(r"\$\{var\.(\w+)\}", lambda found: str(defaults[found[1]]), text)


def gates() -> list[Gate]:
    cloud = [cloud_run("service.yaml"), cloud_run("service-eager.yaml"), terraform_gate()]
    return [*cloud, kubernetes("gate"), kubernetes("scaled"), compose(), systemd()]
