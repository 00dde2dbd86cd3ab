"""What `readygate run` imports, and when: starting is quick, and the first client does not pay for it."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.backends import front, launch
from tests.backends.issuer import Issuer
from tests.backends.launch import Server

TELLING = {"PYTHONPROFILEIMPORTTIME": "1"}  # a line on stderr for each module, in the order of their ends
LINE = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)
SERVING = {"aiohttp", "opentelemetry", "proxy.server", "proxy.edge.accept"}
EXPORTERS = {
    "opentelemetry.exporter",
    "opentelemetry.proto",
    "google.protobuf",
    "grpc",
    "requests",
    "urllib3",
}
TOKENS = {"jwt", "cryptography", "proxy.edge.check"}
SEVERAL = {"proxy.workers.supervisor", "proxy.workers.admin"}
ELSEWHERE = {"proxy.probe", "proxy.demo", "starlette", "uvicorn", "websockets"}
JWT = """
extends: production
guard:
  jwt:
    sources: [{{from: authorization}}]
    algorithms: [ES256]
    jwks: {{url: "{url}"}}
"""


def modules(text: str) -> list[str]:
    return LINE.findall(text)


def among(names: set[str], imported: list[str]) -> set[str]:
    """Those of `names` that were imported, themselves or something in them."""
    return {name for name in names if any(f"{each}.".startswith(f"{name}.") for each in imported)}


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    with launch.uvicorn() as server:
        yield server


def use(gate: Server, **headers: str) -> None:
    """Be the first session and the first plain request."""
    where = f"{gate.host}:{gate.port}"
    with connect(f"ws://{where}/ws/echo", additional_headers=headers, proxy=None) as client:
        client.send("hello")
        assert client.recv() == "hello"
    with urllib.request.urlopen(f"http://{where}/openapi.json", timeout=10) as answer:
        assert answer.status == 200


def test_run_imports_nothing_for_what_it_was_not_asked_for():
    with front.gate("http://127.0.0.1:9", env=TELLING) as gate:
        imported = modules(gate.stderr.read_text())
    assert among(SERVING, imported) == SERVING
    assert among(EXPORTERS | TOKENS | SEVERAL | ELSEWHERE, imported) == set()


def test_next_to_nothing_is_imported_before_run_starts_its_process_anew():
    with front.gate("http://127.0.0.1:9", env=TELLING) as gate:
        counted = Counter(modules(gate.stderr.read_text()))
    assert counted["site"] == 2, "it does start anew"
    assert counted["proxy.cli"] == 2
    assert [name for name in ("argparse", "asyncio", "proxy.options") if counted[name] != 1] == []


def test_the_first_session_and_the_first_request_import_nothing(backend: Server):
    with front.gate(backend.url, env=TELLING) as gate:
        use(gate)
        assert modules(gate.log()) == []


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_exporters_are_there_before_the_first_client(backend: Server, protocol: str):
    nobody = f"http://127.0.0.1:{launch.free_port()}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with front.gate(backend.url, env=TELLING | env) as gate:
        other = {"grpc"} if protocol == "http/protobuf" else {"requests"}
        imported = modules(gate.stderr.read_text())
        use(gate)
        assert among({"opentelemetry.exporter"}, imported)
        assert not among(other, imported)
        assert among(EXPORTERS, modules(gate.log())) == set()


def test_what_checks_tokens_is_there_before_the_first_client(backend: Server):
    with Issuer() as issuer, front.gate(backend.url, JWT.format(url=issuer.url), env=TELLING) as gate:
        imported = modules(gate.stderr.read_text())
        use(gate, Authorization=f"Bearer {issuer.token()}")
        assert among(TOKENS, imported) == TOKENS
        assert [each for each in modules(gate.log()) if among(TOKENS, [each])] == []


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["check", "production"], ["run", "--help"]])
def test_a_command_that_serves_nobody_imports_nothing_that_serves(words: list[str]):
    command = [sys.executable, "-X", "importtime", "-m", "proxy", *words]
    settings = {"env": launch.environment(), "cwd": launch.ROOT, "capture_output": True, "text": True}
    ran = subprocess.run(command, check=True, timeout=30, **settings)
    imported = modules(ran.stderr)
    assert "proxy.cli" in imported
    assert among(SERVING | EXPORTERS | TOKENS | SEVERAL | {"asyncio"}, imported) == set()


@pytest.mark.parametrize("admin", ["off", "127.0.0.1:0"])
def test_a_supervisor_imports_what_it_serves_the_admin_port_with_and_no_more(admin: str):
    # unlike the variable, the option is not handed on to the workers
    command = [sys.executable, "-X", "importtime", *front.GATE[1:], "run", "--workers", "2"]
    where = ["--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin", admin]
    with launch.start("gate", [*command, *where]) as gate:
        gate.wait_for_log(front.LISTENING.search)
        imported = modules(gate.stderr.read_text())
    used = {"aiohttp", "proxy.workers.admin"} if admin != "off" else set()
    assert "proxy.workers.supervisor" in imported
    assert among(SERVING | EXPORTERS | TOKENS | {"proxy.workers.admin"}, imported) == used
