"""`readygate health` against real gates, and against what may sit on a gate's port instead."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy import cli
from proxy.address import Address
from tests.backends import front, launch

NOBODY = "http://127.0.0.1:9"
VARIABLES = ("READYGATE_LISTEN", "READYGATE_TLS_CERT", "PORT")


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def gate() -> Iterator[launch.Server]:
    with front.gate(NOBODY) as running:
        yield running


@pytest.fixture
def health(capsys) -> Callable[..., tuple[int, str]]:
    """Run the command in this process; its exit code and the one line that it printed, anywhere."""

    def ask(*words: str) -> tuple[int, str]:
        code = cli.main(["health", *words])
        said = capsys.readouterr()
        (line,) = (said.out + said.err).splitlines()
        assert bool(said.out) == (code == 0)
        return code, line

    return ask


@contextmanager
def answering(said: bytes) -> Iterator[str]:
    """Take one connection, say this, and close it once the other end has; yields the address."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR) if said else None
            while connection.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("endpoint", ["livez", "readyz", "startupz"])
def test_a_gate_that_serves_is_well(gate, health, endpoint):
    at = f"127.0.0.1:{gate.port}"
    assert health("--listen", at, "--endpoint", endpoint) == (0, f"{endpoint} of {at}: ok")


@pytest.mark.parametrize(
    "variables",
    [
        {"PORT": "{port}"},
        {"READYGATE_LISTEN": "0.0.0.0:{port}"},
        {"READYGATE_LISTEN": ":{port}", "PORT": "1"},
    ],
)
def test_the_gate_is_found_by_the_variables_that_it_was_started_with(gate, health, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=gate.port))
    assert health() == (0, f"readyz of 127.0.0.1:{gate.port}: ok")


def test_every_interface_is_asked_on_loopback():
    assert str(Address.parse("[::]:80", "--listen").from_here()) == "[::1]:80"
    assert str(Address.parse(":80", "--listen").from_here()) == "127.0.0.1:80"
    assert str(Address.parse("10.0.0.7:80", "--listen").from_here()) == "10.0.0.7:80"


def test_a_gate_that_lists_the_hosts_it_serves_tells_of_its_health_all_the_same(health):
    with front.gate(NOBODY, "extends: production\nguard: {hosts: [chat.example.com]}\n") as gate:
        assert health("--listen", f"127.0.0.1:{gate.port}")[0] == 0


def test_a_certificate_of_the_gates_own_is_not_checked(health, monkeypatch, tmp_path: Path):
    import trustme  # noqa: PLC0415 - slow to import

    pem = tmp_path / "gate.pem"
    trustme.CA().issue_cert("gate.example.com").private_key_and_cert_chain_pem.write_to_path(pem)
    at = f"127.0.0.1:{launch.free_port()}"
    words = ["run", "--upstream", NOBODY, "--listen", at, "--admin", "off", "--tls-cert", str(pem)]
    with launch.start("gate over TLS", [*front.GATE, *words]) as gate:
        gate.wait_for_log(lambda text: f"listening on https://{at}" in text)
        monkeypatch.setenv("READYGATE_TLS_CERT", str(pem))
        assert health("--listen", at) == (0, f"readyz of {at}: ok")
        monkeypatch.delenv("READYGATE_TLS_CERT")
        assert health("--listen", at)[0] == 1


def test_a_gate_that_does_not_run_is_not_well(health):
    at = f"127.0.0.1:{launch.free_port()}"
    assert health("--listen", at) == (1, f"readygate: readyz of {at}: no answer: Connection refused")


def test_a_gate_that_hangs_is_not_well(gate, health):
    gate.process.send_signal(signal.SIGSTOP)
    try:
        code, line = health("--listen", f"127.0.0.1:{gate.port}", "--timeout", "0.2")
    finally:
        gate.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert line.endswith("no answer within 0.2 s")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            http("503 Service Unavailable", '{"status":"unavailable","reasons":["stopping"]}'),
            "503 unavailable: stopping",
        ),
        (http("200 OK", "<html>hello</html>"), "200, which is no answer of a gate"),
        (http("200 OK", '["ok"]'), "200, which is no answer of a gate"),
        (http("200 OK", '{"status":"ok","reasons":7}'), "200, which is no answer of a gate"),
        (http("404 Not Found", '{"status":404}'), "404 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "200, which is no answer of a gate"),
    ],
)
def test_anything_but_a_gates_ok_is_not_well_and_told_in_one_line(health, said, told):
    with answering(said) as at:
        assert health("--listen", at) == (1, f"readygate: readyz of {at}: {told}")


@pytest.mark.parametrize("host", ["a" * 70, "two words"])
def test_a_host_that_is_none_is_not_well(health, host):
    code, line = health("--listen", f"{host}:8080")
    assert code == 1
    assert line.startswith(f"readygate: readyz of {host}:8080: ")


@pytest.mark.parametrize(
    "words",
    [
        ("--listen", "8080"),
        ("--listen", ":0"),
        ("--timeout", "0"),
        ("--timeout", "inf"),
        ("--timeout", "nan"),
    ],
)
def test_bad_usage_is_exit_code_2(health, words):
    code, line = health(*words)
    assert code == 2
    assert words[0] in line


def test_an_endpoint_that_there_is_not_is_bad_usage():
    with pytest.raises(SystemExit) as ended:
        cli.main(["health", "--endpoint", "metrics"])
    assert ended.value.code == 2


def test_it_imports_nothing_of_the_gate_and_no_library(gate):
    words = [sys.executable, "-X", "importtime", "-m", "proxy", "health", "--listen", f":{gate.port}"]
    done = subprocess.run(
        words,
        cwd=launch.ROOT,
        env=launch.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert {name for name in imported if name.startswith("proxy")} == {
        "proxy",
        "proxy.cli",
        "proxy.health",
        "proxy.address",
    }
    assert not {"aiohttp", "uvloop", "asyncio", "yaml", "pydantic", "opentelemetry", "dataclasses"} & imported
