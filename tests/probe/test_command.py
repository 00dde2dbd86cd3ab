from __future__ import annotations

import argparse
import json
import socket

import pytest
import trustme

from proxy.probe import add_arguments, run
from tests.backends import launch


def probe(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_a_measurement_is_a_table_and_exit_0(capsys) -> None:
    with launch.library() as backend:
        url = f"ws://127.0.0.1:{backend.port}/ws/echo?token=secret"
        assert probe(url, "-n", "5", "-c", "5") == 0
    out = capsys.readouterr().out
    lines = [line.split("  ")[0] for line in out.splitlines()]
    assert lines[2] == "case"
    assert lines[4:9] == [
        "frame in the segment of the upgrade",
        "frame at once after 101",
        "first frame 300 ms after 101",
        "connect storm",
        "send and leave",
    ]
    assert "secret" not in out


def test_json_has_every_figure_of_every_case(capsys) -> None:
    with launch.library() as backend:
        assert probe(f"ws://127.0.0.1:{backend.port}/ws/echo", "-n", "4", "--json", "--expect", "echo") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["connections"], found["at_once"], found["expect"]) == (4, 4, "echo")
    for case in found["cases"][:4]:
        assert (case["tried"], case["opened"], case["answered"], case["lost"]) == (4, 4, 4, 0)
        assert case["open_ms"]["p50"] <= case["open_ms"]["p99"]
        assert case["answer_ms"]["p50"] > 0


def test_a_certificate_of_an_unknown_authority_is_refused_unless_insecure(tmp_path, capsys) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    pem = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with launch.library(certificate=str(pem)) as backend:
        url = f"wss://localhost:{backend.port}/ws/echo"
        assert probe(url, "-n", "2") == 3
        assert "cannot be reached: TLS: unable to get local issuer certificate" in capsys.readouterr().err
        assert probe(url, "-n", "2", "--insecure") == 0


def test_an_endpoint_that_cannot_be_reached_is_exit_3_and_one_line(capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/ws"
        assert probe(url) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"readygate probe: {url} cannot be reached: connection refused\n"


@pytest.mark.parametrize(
    "words",
    [
        ["http://h/"],
        ["ws://h/#x"],
        ["ws://h/", "-n", "0"],
        ["ws://h/", "-n", "100001"],
        ["ws://h/", "-c", "many"],
        ["ws://h/", "--timeout", "nan"],
        ["ws://h/", "--timeout", "-1"],
        ["ws://h/", "--header", "nonsense"],
        ["ws://h/", "--expect", "much"],
        [],
    ],
)
def test_bad_usage_is_exit_2(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        probe(*words)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err
