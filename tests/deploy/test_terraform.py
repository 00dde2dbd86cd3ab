"""The Terraform module: formatted, made of what the API knows, and nothing in it leads nowhere."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.backends.launch import MissingToolError, installed
from tests.deploy.draw_schemas import V2
from tests.deploy.manifests import (
    TERRAFORM,
    Node,
    cloud_run,
    named,
    terraform,
    terraform_gate,
    terraform_service,
)

# Terraform's own, and the provider's beside the API's.
OF_A_RESOURCE = {
    "project",
    "location",
    "deletion_protection",
    "depends_on",
    "count",
    "for_each",
    "lifecycle",
    "provider",
}
SCHEMA = json.loads(V2.read_text())
FILES = sorted(path.name for path in TERRAFORM.glob("*.tf"))


def text_of(*files: str) -> str:
    """Without comments and descriptions."""
    whole = "\n".join((TERRAFORM / file).read_text() for file in files)
    return re.sub(r'#.*$|^\s*(description|error_message)\s*=\s*".*"$', "", whole, flags=re.MULTILINE)


def resolved(schema: Node) -> Node:
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def check(block: Node, schema: Node, where: str, own: frozenset[str] = frozenset()) -> None:
    """Every name in a block is one of the type's, down to the last; literals have its type."""
    known = resolved(schema)["properties"]
    for dynamic in block.get("dynamic", []):
        for name, body in dynamic.items():
            check(body["content"][0], resolved(known[name])["items"], f"{where}.{name}")
    for name, value in block.items():
        if name == "dynamic" or name in own:
            continue
        assert name in known, f"{where} has no {name}"
        check_value(value, known[name], f"{where}.{name}")


def check_value(value: object, schema: Node, where: str) -> None:
    inner = resolved(schema)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        item = inner["items"] if inner["type"] == "array" else inner
        for block in value:
            check(block, item, where)
    elif not str(value).startswith("${"):
        kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
        assert isinstance(value, kinds[inner["type"]]), f"{where}: {value!r}"
        assert value in inner.get("enum", [value]), f"{where}: {value!r}"


def test_every_name_in_the_service_is_one_of_the_api():
    check(terraform_service(), SCHEMA, "google_cloud_run_v2_service", frozenset(OF_A_RESOURCE))


@pytest.mark.parametrize("wrong", ["failure_treshold", "max_instances"])
def test_a_name_that_the_api_does_not_have_is_found(wrong: str):
    service = terraform_service()
    service["template"][0]["containers"][0]["startup_probe"][0][wrong] = 1
    with pytest.raises(AssertionError, match=wrong):
        check(service, SCHEMA, "service", frozenset(OF_A_RESOURCE))


def test_every_variable_is_declared_and_used_and_every_reference_leads_somewhere():
    main, outputs = text_of("main.tf"), text_of("outputs.tf")
    declared = {name for each in terraform("variables.tf")["variable"] for name in each}
    assert set(re.findall(r"\bvar\.(\w+)", text_of(*FILES))) == declared
    (locals_,) = terraform("main.tf")["locals"]
    assert set(re.findall(r"\blocal\.(\w+)", main)) == set(locals_)
    made = {
        f"{kind}.{name}" for each in terraform("main.tf")["resource"] for kind in each for name in each[kind]
    }
    assert set(re.findall(r"\b(google_\w+\.\w+)", main + outputs)) <= made


def test_every_variable_and_output_is_in_the_readme():
    page = (TERRAFORM / "README.md").read_text()
    table = {
        word
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }
    assert table == {name for each in terraform("variables.tf")["variable"] for name in each}
    assert all(f"`{name}`" in page for each in terraform("outputs.tf")["output"] for name in each)


def test_the_module_sets_up_the_gate_as_the_service_file_does():
    telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"}
    ours, theirs = terraform_gate(), cloud_run("service.yaml")
    place = {"GOOGLE_CLOUD_PROJECT"}
    assert {k: v for k, v in ours.env.items() if k not in place} == {
        k: v for k, v in theirs.env.items() if k not in telemetry | place
    }
    assert ours.probes == theirs.probes
    assert telemetry == set(re.findall(r"\bOTEL_\w+", text_of("main.tf")))


def test_exactly_one_container_has_ports():
    (template,) = terraform_service()["template"]
    assert [container["name"] for container in template["containers"] if "ports" in container] == ["gate"]
    assert "startup_probe" in named(template["containers"], "app"), "the gate's depends_on waits for it"


def test_terraform_would_format_it_no_otherwise():
    try:
        program = installed("terraform")
    except MissingToolError as missing:
        pytest.skip(f"{missing}, in CI either: no registry that is reached here has it")
    words = [program, "fmt", "-check", "-diff", "-recursive", str(TERRAFORM)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
