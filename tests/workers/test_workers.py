"""The supervisor with real processes: a small stand-in for a worker, real signals, real ports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proxy.workers.admin import merge_metrics
from proxy.workers.supervisor import WorkerOptions, supervise
from proxy.workers.worker import announce_ready, worker_admin_socket, worker_number
from tests.backends.launch import free_port

ROOT = Path(__file__).parents[2]

WORKER = """
import sys
if sys.argv[1] == "broken":
    print("broken beyond repair", file=sys.stderr)
    sys.exit(int(sys.argv[2]))

import asyncio, os, signal
from proxy.workers.worker import announce_ready, worker_admin_socket, worker_number, worker_socket

async def main():
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    number = worker_number()

    async def greet(reader, writer):
        writer.write(b"%d %d\\n" % (number, os.getpid()))
        await writer.drain()
        writer.close()

    async def admin(request):
        if request.path == "/events":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"data: from %d\\n\\n" % number)
            await stop.wait()
            return response
        bodies = {
            "/sessions": '{"sessions":[{"id":"a%d"}]}' % number,
            "/readyz": '{"status":"ok"}',
            "/metrics": "# HELP up Up.\\n# TYPE up gauge\\nup 1\\n",
            "/policy": "name: test\\n",
        }
        body = bodies.get(request.path)
        sick = request.path == "/livez" and number == 2
        return web.Response(text=body or '{"status":"x"}', status=503 if sick else 200 if body else 404)

    server = await asyncio.start_server(greet, sock=worker_socket("127.0.0.1", 0))
    sock = worker_admin_socket()
    if sock is not None:
        from aiohttp import web  # half of what a worker's start costs
        await loop.create_unix_server(web.Server(admin), sock=sock)
    announce_ready()
    if sys.argv[1] == "deaf":
        stop.set = lambda: None
        loop.add_signal_handler(signal.SIGTERM, lambda: os.write(1, b"deaf\\n"))
    await stop.wait()

asyncio.run(main())
"""

SUPERVISOR = """
import asyncio, json, logging, sys, uvloop
from proxy.workers.supervisor import WorkerOptions, supervise
logging.basicConfig(stream=sys.stderr, format="%(message)s")
options = json.loads(sys.argv[1])
admin = tuple(options["admin"]) if options["admin"] else None
argv = (sys.executable, "-c", options["worker"], *options["mode"])
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sys.exit(runner.run(supervise(WorkerOptions(
        argv=argv, host="127.0.0.1", port=options["port"], admin=admin, workers=options["workers"],
        upstream="http://127.0.0.1:8000", policy="testing",
    ))))
"""


class Supervisor:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    async def line(self) -> str:
        return (await self.process.stdout.readline()).decode()

    async def error(self) -> str:
        return (await self.process.stderr.readline()).decode()

    async def ready(self) -> None:
        line = await self.line()
        start, _, rest = line.partition("http://127.0.0.1:")
        assert start == "readygate listening on "
        port, _, end = rest.partition(" ")
        assert end == "-> http://127.0.0.1:8000 (policy testing)\n"
        self.port = int(port)

    async def greeting(self) -> tuple[int, int]:
        """A connection's worker: its number and its process."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        number, pid = (await reader.read()).split()
        writer.close()
        return int(number), int(pid)

    async def workers(self, count: int) -> dict[int, int]:
        """Connect until `count` workers have answered."""
        seen: dict[int, int] = {}
        while len(seen) < count:
            number, pid = await self.greeting()
            seen[number] = pid
        return seen


@asynccontextmanager
async def supervisor(
    *mode: str, workers: int = 2, port: int = 0, admin: tuple[str, int] | None = None
) -> AsyncIterator[Supervisor]:
    options = {"worker": WORKER, "mode": mode or ("good",), "workers": workers, "port": port, "admin": admin}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, json.dumps(options),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        yield Supervisor(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()  # to the end of its workers, too, which have its pipes


async def ended(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(fd, lambda: over.done() or over.set_result(None))
    await over
    loop.remove_reader(fd)
    os.close(fd)


def test_connections_are_spread_over_all_workers_on_one_port(run):
    async def main() -> None:
        async with supervisor(workers=3) as gate:
            await gate.ready()
            assert sorted(await gate.workers(3)) == [1, 2, 3]

    run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all_and_the_exit_code_is_0(run, number):
    async def main() -> None:
        async with supervisor() as gate:
            await gate.ready()
            pids = (await gate.workers(2)).values()
            gate.process.send_signal(number)
            assert await gate.process.wait() == 0
            for pid in pids:
                await ended(pid)

    run(main())


def test_a_second_signal_ends_workers_that_do_not_stop(run):
    async def main() -> None:
        async with supervisor("deaf") as gate:
            await gate.ready()
            pids = (await gate.workers(2)).values()
            gate.process.send_signal(signal.SIGTERM)
            assert [await gate.line(), await gate.line()] == ["deaf\n", "deaf\n"]
            gate.process.send_signal(signal.SIGTERM)
            assert await gate.process.wait() == 128 + signal.SIGTERM
            for pid in pids:
                await ended(pid)

    run(main())


def test_a_worker_that_dies_is_replaced_and_that_is_logged(run):
    async def main() -> None:
        async with supervisor() as gate:
            await gate.ready()
            before = await gate.workers(2)
            for _ in range(2):
                os.kill(before[1], signal.SIGKILL)
                assert (await gate.error()).startswith("worker 1 ended with -9, replaced in 0.")
                after = before
                while after[1] == before[1]:
                    # Refused connections are those that the dead worker's queue took along.
                    try:
                        number, pid = await gate.greeting()
                    except (ConnectionError, ValueError):
                        continue
                    after = after | {number: pid}
                assert after[2] == before[2]
                before = after
            gate.process.terminate()
            assert await gate.process.wait() == 0

    run(main())


@pytest.mark.parametrize(("exit_code", "expected"), [(1, 3), (3, 3), (2, 2), (0, 3)])
def test_a_worker_that_cannot_start_ends_the_whole_and_says_why_once(run, exit_code, expected):
    async def main() -> None:
        async with supervisor("broken", str(exit_code), workers=3) as gate:
            out, err = await gate.process.communicate()
            assert gate.process.returncode == expected
            assert out == b""
            assert err == b"broken beyond repair\n"

    run(main())


def test_workers_end_with_their_supervisor_however_it_ends(run):
    async def main() -> None:
        async with supervisor() as gate:
            await gate.ready()
            pids = (await gate.workers(2)).values()
            gate.process.kill()
            for pid in pids:
                await ended(pid)

    run(main())


def test_a_port_that_is_taken_is_one_line_and_exit_3(run):
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with supervisor(port=port) as gate:
                out, err = await gate.process.communicate()
                assert (gate.process.returncode, out) == (3, b"")
                assert err.decode() == (
                    f"readygate: cannot listen: 127.0.0.1:{port}: Address already in use\n"
                )

    run(main())


def test_two_gates_never_share_a_port(run):
    async def main() -> None:
        async with supervisor() as first:
            await first.ready()
            async with supervisor(port=first.port) as second:
                await second.process.communicate()
                assert second.process.returncode == 3
            await first.workers(2)

    run(main())


def test_no_directory_for_sockets_is_one_line_and_exit_3(run, monkeypatch, tmp_path, capsys):
    # As with a root file system that is read-only, and nothing mounted at /tmp.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    options = WorkerOptions((), "127.0.0.1", 0, None, 2, "http://127.0.0.1:8000", "testing")
    assert run(supervise(options)) == 3
    told = "readygate: --workers wants a directory for sockets that it may write to: /tmp, or TMPDIR\n"
    assert capsys.readouterr().err == told


def test_an_admin_port_that_is_taken_is_one_line_and_exit_3(run):
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            async with supervisor(admin=taken.getsockname()) as gate:
                out, err = await gate.process.communicate()
                assert (gate.process.returncode, out) == (3, b"")
                assert err.count(b"\n") == 1

    run(main())


def test_of_two_that_start_at_once_one_has_the_admin_port_and_the_other_says_so(run):
    async def main() -> None:
        admin = ("127.0.0.1", free_port())
        async with supervisor(admin=admin) as one, supervisor(admin=admin) as other:
            ends = {asyncio.create_task(each.process.wait()): each for each in (one, other)}
            (ended, *_), _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            loser = ends.pop(ended)
            assert (ended.result(), b"cannot listen" in await loser.process.stderr.read()) == (3, True)
            (winner,) = ends.values()
            await winner.ready()

    run(main())


def test_the_admin_port_answers_for_all_workers(run):
    async def main() -> None:
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        async with supervisor(admin=("127.0.0.1", port)) as gate, aiohttp.ClientSession() as session:
            await gate.ready()
            async with session.get(f"{base}/readyz") as answer:
                assert answer.status == 200
                assert await answer.json() == {
                    "status": "ok",
                    "workers": [{"worker": 1, "status": "ok"}, {"worker": 2, "status": "ok"}],
                }
            async with session.get(f"{base}/livez") as answer:  # worker 2 is not well
                assert answer.status == 503
            async with session.get(f"{base}/sessions") as answer:
                listed = json.loads(await answer.read())
                assert listed == {"sessions": [{"id": "a1", "worker": 1}, {"id": "a2", "worker": 2}]}
            async with session.get(f"{base}/metrics") as answer:
                assert (await answer.text()).endswith('up{worker="1"} 1\nup{worker="2"} 1\n')
            async with session.get(f"{base}/policy") as answer:
                assert await answer.text() == "name: test\n"
            async with session.get(f"{base}/nothing") as answer:
                assert answer.status == 404
            async with session.get(f"{base}/events") as answer:
                told = {await answer.content.readuntil(b"\n\n") for _ in range(2)}
                assert told == {b"data: from 1\n\n", b"data: from 2\n\n"}

    run(main())


def test_metrics_are_merged_by_family_and_labelled():
    one = (
        '# HELP a_total A.\n# TYPE a_total counter\na_total{x="}{,"} 1\n'
        '# TYPE h histogram\nh_bucket{le="1"} 2\nh_sum 3\n'
    )
    two = "# TYPE h histogram\nh_sum 5\nlone 1.5e3\n"
    assert merge_metrics([(1, one), (2, two)]) == (
        "# HELP a_total A.\n"
        "# TYPE a_total counter\n"
        'a_total{x="}{,",worker="1"} 1\n'
        "# TYPE h histogram\n"
        'h_bucket{le="1",worker="1"} 2\n'
        'h_sum{worker="1"} 3\n'
        'h_sum{worker="2"} 5\n'
        'lone{worker="2"} 1.5e3\n'
    )


def test_a_process_that_is_no_worker_has_no_number_and_nothing_to_announce(monkeypatch):
    monkeypatch.delenv("READYGATE_WORKER", raising=False)
    monkeypatch.delenv("READYGATE_WORKER_READY_FD", raising=False)
    monkeypatch.delenv("READYGATE_WORKER_ADMIN", raising=False)
    assert worker_number() is None
    assert worker_admin_socket() is None
    announce_ready()
