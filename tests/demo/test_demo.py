"""The demo as a user starts it: its table, its clean end, and what it says when it cannot start."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from proxy import demo as room
from proxy.demo import command
from proxy.demo.services import Service
from proxy.probe.client import Manner
from proxy.probe.measure import Effort, measure
from proxy.probe.target import parse_target
from tests.backends import launch

HANG_S = 100


@contextlib.contextmanager
def demo(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--clients", "10", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=launch.environment(), cwd=launch.ROOT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def descendants(pid: int) -> set[int]:
    """The processes below `pid`."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    below, found = {pid}, set()
    while below:
        below = {child for child, parent in parents.items() if parent in below}
        found |= below
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read its output up to the line that has `text`."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if text in line:
            return lines
    raise AssertionError("\n".join(["it never said " + text, *lines]))


@pytest.mark.timeout(HANG_S)
def test_every_fault_fails_directly_and_is_served_through_the_gate() -> None:
    with demo("--once") as process:
        out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    assert re.search(r"^live page: http://127\.0\.0\.1:\d+/$", out, re.MULTILINE), out
    table = {}
    for line in out.partition("through the gate\n")[2].splitlines()[1:]:
        if cells := re.split(r"  +", line.strip()):
            table[cells[0]] = cells[1:]
    table.pop("")
    healthy = table.pop("no fault: a healthy backend")
    assert [cell.partition(",")[0] for cell in healthy] == ["10 of 10 served"] * 2
    direct, gate = (int(cell.split()[0]) for cell in table.pop("client gone before accept()"))
    assert direct > 0, out
    assert gate == 0, out
    assert len(table) == 5
    for fault, (direct, gate) in table.items():
        assert direct.startswith("0 of 10 served ("), (fault, out)
        assert gate == "10 of 10 served", (fault, out)


@pytest.mark.timeout(HANG_S)
def test_it_stays_until_ctrl_c_and_leaves_no_process_behind(run) -> None:
    with demo("--clients", "1") as process:
        until(process, "Still running")
        where = "\n".join(until(process, "try "))
        gate, backend, admin, page = (
            re.search(rf"{name} +http://(127\.0\.0\.1:\d+)", where)[1]
            for name in ("gate", "backend", "admin", "page")
        )
        with urlopen(Request(f"http://{page}/", headers={"Accept": "text/html"})) as answer:
            assert answer.read().startswith(b"<!doctype html>")
        for address in (gate, backend):
            with urlopen(f"http://{address}/ws/stats") as answer:
                assert answer.status == 200
        with urlopen(f"http://{admin}/livez") as answer:
            assert answer.status == 200
        found = run(measure(parse_target(f"ws://{gate}/ws/chat"), Manner(b"hello"), Effort(5, 5)))
        assert [result.lost for result in found.results] == [0, 0, 0, 0, None]

        children = descendants(process.pid)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    assert not alive(children)
    assert "Traceback" not in out


@pytest.mark.timeout(HANG_S)
def test_a_signal_before_the_table_ends_it_and_its_children() -> None:
    with demo() as process:
        until(process, "direct: a cold start")
        children = descendants(process.pid)
        process.terminate()
        out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    assert children
    assert not alive(children)
    assert "Traceback" not in out


def test_missing_extras_are_one_line_and_exit_3(monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "_NEEDS", ("starlette", "no_such_server"))
    assert room.run(arguments()) == 3
    assert capsys.readouterr().err == (
        "readygate demo: no_such_server missing; install them with: pip install 'readygate[demo]'\n"
    )


def test_a_gate_that_cannot_start_is_told_with_its_own_words_and_exit_3() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with demo("--listen", address) as process:
            out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 3
    assert "readygate demo: the gate did not start:" in out
    assert address.partition(":")[2] in out.partition("did not start:")[2]
    assert "Traceback" not in out


@pytest.mark.parametrize(
    "words", [["--clients", "0"], ["--clients", "201"], ["--listen", "nowhere"], ["--listen", "h:99999"]]
)
def test_bad_usage_is_exit_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        arguments(*words)
    assert stopped.value.code == 2


@pytest.mark.parametrize(("value", "once"), [("1", True), ("", False), ("0", False), (None, False)])
def test_once_may_come_from_the_environment(monkeypatch, value: str | None, once: bool) -> None:
    monkeypatch.delenv("ONCE", raising=False)
    if value is not None:
        monkeypatch.setitem(os.environ, "ONCE", value)
    assert arguments().once is once


def test_a_service_refuses_until_it_is_up_and_again_when_it_is_down(run) -> None:
    async def ups_and_downs() -> list[str]:
        service = Service(lambda question: question.upper(), 0.0)
        host, _, port = service.address.partition(":")

        async def ask() -> str:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return "refused"
            writer.write(b"hello\n")
            answer = (await reader.readline()).decode().strip()
            writer.close()
            return answer

        heard = [await ask()]
        await service.up()
        heard.append(await ask())
        service.down()
        heard.append(await ask())
        return heard

    assert run(ups_and_downs()) == ["refused", "HELLO", "refused"]


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    room.add_arguments(parser)
    return parser.parse_args(words)
