"""All workers take a policy, or none: a real supervisor, and stand-ins for workers that fail on demand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.edge.upstream import parse_upstream
from proxy.policy import load
from proxy.server import Gate
from proxy.workers.control import Channel, obey
from tests.reload.conftest import PolicyFile
from tests.telemetry.reports import telemetry

ROOT = Path(__file__).parents[2]

# Does what the file with its number says: when it starts, when it is to prepare, when it is to commit.
WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from proxy.policy.load import examine
from proxy.workers.worker import announce_ready, supervisor_channel, worker_number, worker_policy

number = worker_number()
orders = Path(sys.argv[1], str(number))

def order():
    return orders.read_text() if orders.exists() else ""

def tell(text):
    os.write(1, f"{number} {text}\\n".encode())

def code(file, name):
    policy = examine(file, name).policy
    return f"{policy.default.settings.session.upstream_lost_code} of {name}" if policy else "what is gone"

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tell("begins with " + code(*worker_policy()) + f" as {os.getpid()}")
    while order() == "hold":
        await asyncio.sleep(0.01)
    announce_ready()
    obeying = asyncio.create_task(obey(await supervisor_channel()))
    await stop.wait()

async def obey(channel):
    async for said in channel:
        match said["say"]:
            case "prepare":
                prepared = code(said["file"], said["name"])
                if order() == "die":
                    os._exit(7)
                tell("prepares " + prepared)
                problems = ["no, says " + str(number)] if order() == "refuse" else []
                channel.say("prepared", policy=said["policy"], problems=problems)
            case "commit":
                if order() == "die later":
                    os._exit(7)
                files = len(list(Path(worker_policy()[0]).parent.glob("policy-*.yaml")))
                tell(f"switches to {prepared}, {files} files")
                channel.say("switched", policy=said["policy"], problems=[])
            case "abort":
                tell("forgets")
            case "count":
                tell("counts " + said["result"])

asyncio.run(main())
"""

SUPERVISOR = """
import asyncio, json, logging, sys, uvloop
from proxy.hangup import Hangups
from proxy.policy.load import examine
from proxy.reload import Chosen
from proxy.workers.supervisor import WorkerOptions, supervise

hangups = Hangups()
log = logging.StreamHandler(sys.stdout)
log.setFormatter(logging.Formatter("%(levelname)s %(message)s %(fields)s", defaults={"fields": ""}))
logging.basicConfig(level=logging.INFO, handlers=[log])
worker, folder, policy = json.loads(sys.argv[1])
options = WorkerOptions(
    argv=(sys.executable, "-c", worker, folder), host="127.0.0.1", port=0, admin=None, workers=2,
    upstream="http://127.0.0.1:8000", policy="gate.yaml",
)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sys.exit(runner.run(supervise(options, Chosen(policy, examine(policy), hangups, False))))
"""


class Supervisor:
    """A supervisor with two workers, and all that they have said."""

    def __init__(self, process: asyncio.subprocess.Process, orders: Path, policy: PolicyFile) -> None:
        self.process = process
        self.said: list[str] = []
        self._orders = orders
        self._policy = policy

    def order(self, number: int, what: str) -> None:
        (self._orders / str(number)).write_text(what)

    async def says(self, *beginnings: str) -> list[str]:
        """Wait until lines have come that begin so, each; return all that have come since the last call."""
        missing, since = list(beginnings), []
        while missing:
            line = (await self.process.stdout.readline()).decode().rstrip()
            assert line, (missing, self.said)
            since.append(line)
            found = next((each for each in missing if line.startswith(each)), None)
            if found is not None:
                missing.remove(found)
        self.said += since
        return since

    async def reload(self, code: int) -> None:
        self._policy.lost_code(code)
        self.process.send_signal(signal.SIGHUP)

    def pid(self, number: int) -> int:
        """The process that worker `number` is now."""
        begun = [line for line in self.said if line.startswith(f"{number} begins ")]
        return int(begun[-1].split()[-1])


@asynccontextmanager
async def supervisor(folder: Path, policy: PolicyFile) -> AsyncIterator[Supervisor]:
    orders = folder / "orders"
    orders.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, json.dumps([WORKER, str(orders), str(policy)]),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    try:
        gate = Supervisor(process, orders, policy)
        await gate.says("1 begins with 4001 of gate.yaml", "2 begins with 4001 of gate.yaml", "readygate ")
        yield gate
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def test_all_switch_when_all_have_prepared(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            await gate.reload(4002)
            said = await gate.says("INFO policy switched", "1 counts switched", "2 counts switched")
            last = max(said.index(f"{number} prepares 4002 of gate.yaml") for number in (1, 2))
            switches = [place for place, line in enumerate(said) if " switches to 4002 of gate.yaml" in line]
            assert len(switches) == 2
            assert last < switches[0]
            gate.process.terminate()
            assert await gate.process.wait() == 0

    run(main())


def test_none_switches_when_one_refuses(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            gate.order(2, "refuse")
            await gate.reload(4002)
            said = await gate.says("ERROR policy refused", "1 forgets", "2 forgets", "1 counts refused")
            (error,) = [line for line in said if line.startswith("ERROR")]
            assert error.endswith("{'policy': 'gate.yaml', 'problems': ['no, says 2']}")
            gate.order(2, "")
            await gate.reload(4002)
            await gate.says("INFO policy switched", "1 switches to 4002", "2 switches to 4002")
            assert sum(" switches " in line for line in gate.said) == 2

    run(main())


def test_what_all_refuse_for_one_reason_is_told_once(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            for number in (1, 2):
                gate.order(number, "refuse")
            await gate.reload(4002)
            said = await gate.says("ERROR policy refused")
            assert "'problems': ['no, says 1', 'no, says 2']" in said[-1]

    run(main())


def test_none_switches_when_one_dies_and_the_one_in_its_place_has_the_old_policy(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            gate.order(2, "die")
            await gate.reload(4002)
            said = await gate.says(
                "ERROR policy refused", "ERROR worker 2 ended with 7", "1 forgets", "2 begins with 4001"
            )
            assert any(line.endswith("'problems': ['worker 2 ended']}") for line in said)

    run(main())


def test_none_switches_when_one_does_not_answer_and_its_late_answer_counts_for_nothing(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            os.kill(gate.pid(2), signal.SIGSTOP)
            await gate.reload(4002)
            said = await gate.says("ERROR policy refused", "1 forgets")
            assert any("worker 2 did not answer within 5 s" in line for line in said)
            os.kill(gate.pid(2), signal.SIGCONT)
            await gate.says("2 prepares what is gone", "2 forgets", "2 counts refused")
            gate.order(2, "refuse")
            await gate.reload(4003)
            await gate.says("ERROR policy refused", "2 prepares 4003")
            gate.order(2, "")
            await gate.reload(4004)
            await gate.says("INFO policy switched", "1 switches to 4004", "2 switches to 4004")

    run(main())


def test_one_that_dies_after_the_decision_is_replaced_by_one_with_the_new_policy(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            gate.order(2, "die later")
            await gate.reload(4002)
            await gate.says(
                "WARNING policy committed, but worker 2 ended",
                "INFO policy switched",
                "ERROR worker 2 ended with 7",
                "1 switches to 4002",
                "2 begins with 4002 of gate.yaml",
            )

    run(main())


def test_one_that_is_starting_meanwhile_catches_up_and_holds_nobody_up(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            gate.order(2, "hold")
            os.kill(gate.pid(2), signal.SIGKILL)
            await gate.says("2 begins with 4001")
            for code in (4002, 4003):
                await gate.reload(code)
                await gate.says("INFO policy switched", f"1 switches to {code}")
            gate.order(2, "")
            said = await gate.says("2 switches to 4003")
            assert [line.split(",")[0] for line in said if line[:4] in {"2 pr", "2 sw"}] == [
                "2 prepares 4002 of gate.yaml",
                "2 switches to 4002 of gate.yaml",
                "2 prepares 4003 of gate.yaml",
                "2 switches to 4003 of gate.yaml",
            ]

    run(main())


def test_policies_that_nobody_needs_any_more_are_removed(run, tmp_path, policy):
    async def main():
        async with supervisor(tmp_path, policy) as gate:
            for code in range(4002, 4012):
                await gate.reload(code)
                said = await gate.says("INFO policy switched", f"1 switches to {code}")
            assert any(line == "1 switches to 4011 of gate.yaml, 3 files" for line in said)  # 2 of old

    run(main())


@pytest.mark.parametrize("words", [("abort",), ("commit",)])
def test_a_worker_switches_to_nothing_that_it_has_not_prepared(run, tmp_path, words):
    """One that is told to serve by a policy that it cannot prepare must not go on with another one."""

    async def main():
        ours, theirs = socket.socketpair()
        supervisor, worker = await Channel.over(ours), await Channel.over(theirs)
        gate = Gate(parse_upstream("http://127.0.0.1:9"), load("testing"), telemetry(), None)
        stopped = asyncio.Event()
        obeying = asyncio.create_task(obey(worker, gate, stopped.set))
        supervisor.say("prepare", policy=1, file=str(tmp_path / "none.yaml"), name="gate.yaml")
        answer = await anext(aiter(supervisor))
        assert (answer["say"], answer["policy"]) == ("prepared", 1)
        assert answer["problems"][0].startswith(f"{tmp_path}/none.yaml: policy: found no such file")
        for word in words:
            supervisor.say(word, policy=1)
        supervisor.close()
        await obeying
        assert stopped.is_set() == (words == ("commit",))
        assert gate.policy_text() == load("testing").dump()
        worker.close()

    run(main())
