"""What goes wrong at the start is told in one clear line, with the exit code of the contract."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.backends import front, launch, wire

UPSTREAM = ["--upstream", "http://127.0.0.1:9"]
QUIET = ["--listen", "127.0.0.1:0", "--admin", "off"]


def run_gate(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    command = [*front.GATE, *words]
    return subprocess.run(
        command,
        cwd=launch.ROOT,
        env=launch.environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert "readygate listening" not in done.stdout


def test_an_upstream_that_is_none_is_bad_usage():
    assert_one_line(run_gate("run", "--upstream", "ftp://127.0.0.1:1", *QUIET), 2, "ftp://127.0.0.1:1")


def test_no_upstream_at_all_is_bad_usage():
    done = run_gate("run", *QUIET)
    assert done.returncode == 2
    assert "upstream" in done.stderr


def test_an_unknown_policy_is_told_with_the_names_that_there_are():
    assert_one_line(run_gate("run", *UPSTREAM, *QUIET, "--policy", "nonsense"), 2, "nonsense", "production")


def test_a_bad_policy_file_is_told_with_file_and_line(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: production\nhandshake: {deadline_s: soon}\n")
    place = ("mine.yaml", ":2:", "handshake.deadline_s", "soon")
    assert_one_line(run_gate("run", *UPSTREAM, *QUIET, "--policy", str(path)), 2, *place)
    assert run_gate("check", str(path)).returncode == 2


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_taken_port_is_told_and_exits_3(flag: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = {"--listen": ["--admin", "off"], "--admin": ["--listen", "127.0.0.1:0"]}[flag]
        done = run_gate("run", *UPSTREAM, *other, flag, address)
    assert_one_line(done, 3, address)


def test_a_missing_authority_file_could_not_start(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: production\nupstream: {{tls: {{ca_file: {tmp_path / 'none.pem'}}}}}\n")
    done = run_gate("run", "--upstream", "https://127.0.0.1:9", *QUIET, "--policy", str(path))
    assert done.returncode in {2, 3}
    assert "none.pem" in done.stderr


def test_check_prints_a_preset_that_is_itself_valid(tmp_path: Path):
    printed = run_gate("check", "production")
    assert printed.returncode == 0, printed.stderr
    path = tmp_path / "again.yaml"
    path.write_text(printed.stdout)
    assert run_gate("check", str(path)).returncode == 0


def test_two_workers_share_a_port_and_one_signal_ends_both(run, stands):
    async def main(through):
        for number in range(20):
            async with await wire.opened(through, "/echo") as client:
                client.send(wire.text(f"{number}"))
                assert await client.message() == f"{number}".encode()

    gate = front.gate(stands.backend("flaky").url, workers="2")
    run(main((gate.host, gate.port)))
    assert gate.stop() == 0
    assert not launch.takes_connections(gate)


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_an_idle_gate_cleanly(stands, signum: str):
    gate = front.gate(stands.backend("flaky").url)
    assert gate.stop(getattr(signal, signum)) == 0


def test_a_signal_while_it_starts_is_a_clean_stop_too(tmp_path: Path):
    # The first process of a container would not be ended by a signal that it does not handle.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Signal:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'uvloop':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Signal)\n"
    )
    path = f"{tmp_path}:{launch.ROOT}"
    done = run_gate("run", *UPSTREAM, *QUIET, env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_while_it_starts_itself_anew_is_a_clean_stop_too(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if 'PYTHONMALLOC' in os.environ:\n"  # the second start, in which nobody handles anything yet
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = run_gate("run", *UPSTREAM, *QUIET, env={"PYTHONPATH": f"{tmp_path}:{launch.ROOT}"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_in_the_midst_of_an_import_is_not_lost_with_an_exception(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Deaf:\n"
        "    def __del__(self):\n"  # Python ignores what is raised here
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "class Signal:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'uvloop':\n"
        "            Deaf()\n"
        "sys.meta_path.insert(0, Signal)\n"
    )
    done = run_gate("run", *UPSTREAM, *QUIET, env={"PYTHONPATH": f"{tmp_path}:{launch.ROOT}"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("chosen", "used"), [({}, "malloc"), ({"PYTHONMALLOC": "pymalloc"}, "pymalloc")])
def test_run_uses_the_allocator_that_gives_memory_back_unless_told_otherwise(stands, chosen, used):
    with front.gate(stands.backend("flaky").url, env=chosen) as gate:
        environment = Path(f"/proc/{gate.pid}/environ").read_bytes().split(b"\0")
    assert f"PYTHONMALLOC={used}".encode() in environment


def test_a_gate_may_follow_another_on_its_port_at_once(run, stands):
    async def left_by(gate):
        """Let the gate end connections first, so that its side of them stays behind in TIME_WAIT."""
        clients = [await wire.opened((gate.host, gate.port), "/echo") for _ in range(3)]
        gate.process.send_signal(signal.SIGTERM)
        for client in clients:
            async with client:
                with contextlib.suppress(wire.ClosedError):
                    while True:
                        await client.message()

    listen = f"127.0.0.1:{launch.free_port()}"
    policy = "extends: production\ndrain: {spread_s: 0.2}\n"
    for workers in ("2", "2", "1", "1", "2"):  # each kind follows each
        with front.gate(stands.backend("flaky").url, policy, workers=workers, listen=listen) as gate:
            assert f"{gate.host}:{gate.port}" == listen
            run(left_by(gate))
            assert gate.process.wait(30) == 0
