"""A real gate whose policy changes under it: who notices, who does not, and what the log says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import trustme

from proxy import cli
from proxy.options import RunOptions
from tests.backends import front, launch, wire
from tests.backends.launch import Server
from tests.reload.conftest import PolicyFile

each_kind = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])


def hang_up(gate: Server) -> None:
    gate.process.send_signal(signal.SIGHUP)


def entries(gate: Server) -> list[dict]:
    return [json.loads(line) for line in gate.log().splitlines() if line.startswith("{")]


async def told(gate: Server, message: str, times: int = 1) -> dict:
    """Wait until the gate has logged this message so often; return the last entry."""
    await asyncio.to_thread(gate.wait_for_log, lambda text: text.count(f'"{message}"') >= times)
    return [entry for entry in entries(gate) if entry["message"] == message][-1]


async def reloads(gate: Server, result: str, count: int) -> None:
    """Wait until each process has counted so many reloads with this result."""

    def counted() -> list[int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{gate.admin_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        sample = f'readygate_policy_reloads_total{{result="{result}"'
        return [int(line.split()[-1]) for line in lines if line.startswith(sample)]

    while not (seen := await asyncio.to_thread(counted)) or min(seen) < count:
        await asyncio.sleep(0.01)
    assert set(seen) == {count}


async def opened(gate: Server, count: int = 1) -> list[wire.Wire]:
    return [await wire.opened((gate.host, gate.port), "/echo") for _ in range(count)]


async def alive(clients: list[wire.Wire]) -> None:
    for client in clients:
        client.send(wire.text("still here?"))
        assert await client.message() == b"still here?"


async def lost_codes(clients: list[wire.Wire], backend: Server) -> set[int]:
    """Let the backend die; return the codes that the clients are closed with."""
    backend.process.kill()
    codes = set()
    for client in clients:
        with pytest.raises(wire.ClosedError) as closed:
            await client.message()
        codes.add(closed.value.code)
    return codes


async def ended(clients: list[wire.Wire]) -> None:
    """Let go of them: uvloop may fail to close a loop that has connections."""
    for client in clients:
        client.abort()
        await client.gone.wait()


@each_kind
def test_open_sessions_keep_their_settings_new_ones_get_the_new_and_nobody_is_dropped(
    run, backend, policy, workers
):
    async def main(gate):
        old = await opened(gate, 20)
        policy.lost_code(4002)
        hang_up(gate)
        assert (await told(gate, "policy switched"))["policy"] == "gate.yaml"
        new = await opened(gate, 20)
        await alive(old + new)
        await reloads(gate, "switched", 1)
        assert await lost_codes(old, backend) == {4001}
        assert await lost_codes(new, backend) == {4002}

    with front.gate(backend.url, str(policy), workers=workers) as gate:
        run(main(gate))
        assert gate.stop() == 0


@each_kind
def test_a_bad_file_is_one_error_with_all_its_problems_and_the_old_policy_stays(
    run, backend, policy, workers
):
    async def main(gate):
        old = await opened(gate, 5)
        policy.says("sesion: {}\nlimits: {idle_s: never}\n")
        hang_up(gate)
        entry = await told(gate, "policy refused")
        assert (entry["severity"], entry["policy"], len(entry["problems"])) == ("ERROR", "gate.yaml", 2)
        assert entry["problems"][0].startswith(f"{policy}:1: sesion: found an unknown key")
        assert entry["problems"][1].startswith(f"{policy}:2: limits.idle_s: found ")
        await reloads(gate, "refused", 1)
        new = await opened(gate, 5)
        await alive(old + new)
        assert await lost_codes(old + new, backend) == {4001}
        policy.lost_code(4001)
        hang_up(gate)
        await told(gate, "policy unchanged")

    with front.gate(backend.url, str(policy), workers=workers) as gate:
        run(main(gate))


@each_kind
def test_clients_that_come_and_talk_while_policies_change_notice_nothing(run, backend, policy, workers):
    served = 0

    async def customer(gate, until):
        nonlocal served
        while not until.is_set():
            async with await wire.opened((gate.host, gate.port), "/echo", early=wire.text("early")) as client:
                assert await client.message() == b"early"
                await alive([client])
                assert await client.leave() == []
            served += 1

    async def browser(gate, until):
        nonlocal served
        while not until.is_set():
            request = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
            async with await wire.Wire.dial((gate.host, gate.port), request) as client:
                assert await client.body() == b"up"
            served += 1

    async def main(gate):
        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(customer(gate, until))
                group.create_task(browser(gate, until))
            for number in range(1, 16):
                policy.lost_code(4001 + number)
                hang_up(gate)
                await told(gate, "policy switched", number)
            until.set()
        assert served > 30
        assert not [entry for entry in entries(gate) if entry["severity"] not in {"INFO", "DEBUG"}]

    with front.gate(backend.url, str(policy), workers=workers) as gate:
        run(main(gate))


@each_kind
def test_a_watched_policy_is_loaded_again_without_a_signal(run, backend, policy, workers):
    async def main(gate):
        old = await opened(gate, 5)
        policy.lost_code(4002)
        await told(gate, "policy switched")
        policy.says("nonsense: 1\n")
        await told(gate, "policy refused")
        new = await opened(gate, 5)
        await alive(old + new)
        assert await lost_codes(new, backend) == {4002}
        await ended(old + new)

    with front.gate(backend.url, str(policy), workers=workers, env={"READYGATE_WATCH": "on"}) as gate:
        run(main(gate))
        assert gate.stop() == 0


@pytest.mark.parametrize(
    ("words", "environ", "watch"),
    [
        ([], {}, False),
        (["--watch"], {}, True),
        ([], {"READYGATE_WATCH": "on"}, True),
        ([], {"READYGATE_WATCH": "True"}, True),
        ([], {"READYGATE_WATCH": "1"}, True),
        ([], {"READYGATE_WATCH": "off"}, False),
        ([], {"READYGATE_WATCH": "0"}, False),
        ([], {"READYGATE_WATCH": ""}, False),
        (["--watch"], {"READYGATE_WATCH": "off"}, True),
    ],
)
def test_watching_is_a_flag_or_a_variable(words, environ, watch):
    words = ["run", "--upstream", "http://127.0.0.1:9", *words]
    assert RunOptions.parse(cli._parser("run", environ).parse_args(words), environ).watch is watch


def test_a_watch_variable_that_is_neither_on_nor_off_is_bad_usage():
    args = cli._parser("run", {"READYGATE_WATCH": "maybe"}).parse_args(["run", "--upstream", "http://h:1"])
    with pytest.raises(ValueError, match="READYGATE_WATCH 'maybe': expected on or off"):
        RunOptions.parse(args, {})


# -- at the start and at the end ----------------------------------------------------------------------------


def holds_back_hangups(pid: int) -> bool:
    """Whether a process has blocked, ignored or caught SIGHUP."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    masks = [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")]
    return any(mask & 1 << (signal.SIGHUP - 1) for mask in masks)


@each_kind
def test_hang_ups_during_the_start_do_no_harm(run, backend, policy, workers):
    words = ["--listen", "127.0.0.1:0", "--admin", "off", "--policy", str(policy), "--workers", workers]
    gate = launch.start("gate", [*front.GATE, "run", "--upstream", backend.url, *words])
    with gate:
        while not holds_back_hangups(gate.pid):  # an interpreter that has not come to our code cannot
            time.sleep(0.001)
        while not (found := front.LISTENING.search(gate.log())):
            hang_up(gate)
            assert gate.process.poll() is None, gate.log()
            time.sleep(0.001)
        gate.port = int(found[1])
        run(told(gate, "policy unchanged"))
        run(served_once(gate))
        assert gate.stop() == 0


async def served_once(gate: Server) -> None:
    async with await wire.opened((gate.host, gate.port), "/echo") as client:
        await alive([client])


@each_kind
def test_hang_ups_during_a_stop_do_no_harm(run, backend, policy, workers):
    async def main(gate):
        clients = await opened(gate, 20)
        policy.lost_code(4002)
        hang_up(gate)
        gate.process.terminate()
        closed = asyncio.gather(*(end(client) for client in clients))
        while not closed.done():
            hang_up(gate)
            await asyncio.sleep(0.005)
        assert set(await closed) == {1012}

    async def end(client):
        with pytest.raises(wire.ClosedError) as closed:
            await client.message()
        return closed.value.code

    with front.gate(backend.url, str(policy), workers=workers) as gate:
        run(main(gate))
        assert gate.process.wait(20) == 0


# -- workers ------------------------------------------------------------------------------------------------


def workers_of(gate: Server) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{gate.pid}/task/{gate.pid}/children").read_text().split()}


def test_a_worker_that_comes_later_has_the_policy_of_the_others_whatever_is_on_disk(run, backend, policy):
    async def main(gate):
        policy.lost_code(4002)
        hang_up(gate)
        await told(gate, "policy switched")
        policy.says("nonsense: 1\n")
        before = workers_of(gate)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        while len(workers_of(gate) - before) < 2 or not await all_ready(gate):
            await asyncio.sleep(0.01)
        gate.mark()
        new = await opened(gate, 20)
        await told(gate, "session open", 20)
        assert {entry["policy"] for entry in entries(gate)} == {"gate.yaml"}
        assert await lost_codes(new, backend) == {4002}

    with front.gate(backend.url, str(policy), workers="2") as gate:
        run(main(gate))


async def all_ready(gate: Server) -> bool:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{gate.admin_port}/readyz") as answer:
                return answer.status == 200
        except OSError:
            return False

    return await asyncio.to_thread(ask)


def test_a_hang_up_for_a_worker_is_none_of_its_business(run, backend, policy):
    async def main(gate):
        old = await opened(gate, 10)
        workers = workers_of(gate)
        policy.lost_code(4002)
        for pid in workers:
            os.kill(pid, signal.SIGHUP)
        new = await opened(gate, 10)
        await alive(old + new)
        assert workers_of(gate) == workers
        assert await lost_codes(old + new, backend) == {4001}

    with front.gate(backend.url, str(policy), workers="2") as gate:
        run(main(gate))


# -- TLS ----------------------------------------------------------------------------------------------------


@each_kind
def test_authorities_are_read_again_and_bad_ones_are_refused(run, policy, tmp_path, workers):
    ours, other = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ours.cert_pem.write_to_path(ca_file)
    ours.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    text = "extends: testing\nhandshake: {deadline_s: 1}\nupstream: {tls: {ca_file: %s}}\n"
    policy.says(text % "ca.pem")

    async def status(gate):
        async with await wire.Wire.dial((gate.host, gate.port), wire.upgrade("/ws/echo")) as client:
            return (await client.head()).status

    async def main(gate):
        assert await status(gate) == 101
        policy.says(text % "none.pem")
        hang_up(gate)
        entry = await told(gate, "policy refused")
        assert entry["problems"] == [
            f"upstream.tls.ca_file {tmp_path}/none.pem: [Errno 2] No such file or directory"
        ]
        assert await status(gate) == 101
        policy.says(text % "ca.pem")
        other.cert_pem.write_to_path(ca_file)
        hang_up(gate)
        await told(gate, "policy switched")
        assert await status(gate) == 503
        ours.cert_pem.write_to_path(ca_file)
        hang_up(gate)
        await told(gate, "policy switched", 2)
        assert await status(gate) == 101

    with (
        launch.library(certificate=str(tmp_path / "server.pem")) as backend,
        front.gate(backend.url, str(policy), workers=workers) as gate,
    ):
        run(main(gate))


# -- terminals ----------------------------------------------------------------------------------------------


def in_terminal(backend: Server, policy: PolicyFile, workers: str, *before: str) -> tuple[Server, int]:
    """Start a gate in the foreground of a terminal of its own; return it and the terminal's other end."""
    ours, theirs = os.openpty()
    words = ["--listen", "127.0.0.1:0", "--admin", "off", "--policy", str(policy), "--workers", workers]
    command = [*before, *front.GATE, "run", "--upstream", backend.url, *words]
    folder = policy.folder
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=launch.ROOT, env=launch.environment(), stdin=theirs, stdout=out, stderr=out,
        )  # fmt: skip
    os.close(theirs)
    gate = Server("gate", "127.0.0.1", 0, process, folder / "out", Path(os.devnull))
    found = front.LISTENING.search(gate.wait_for_log(front.LISTENING.search))
    gate.port = int(found[1])
    return gate, ours


@each_kind
def test_a_gate_stops_when_the_terminal_that_it_runs_in_is_closed(run, backend, policy, workers):
    # who runs the tests under nohup would hand its deafness on
    gate, terminal = in_terminal(backend, policy, workers, "env", "--default-signal=HUP")
    with gate:
        hang_up(gate)
        run(told(gate, "policy unchanged"))
        os.close(terminal)
        assert gate.process.wait(20) == 0


def test_a_gate_under_nohup_outlives_its_terminal(run, backend, policy):
    gate, terminal = in_terminal(backend, policy, "1", "nohup")
    with gate:
        os.close(terminal)
        run(told(gate, "policy unchanged"))
        run(served_once(gate))
        assert gate.stop() == 0
