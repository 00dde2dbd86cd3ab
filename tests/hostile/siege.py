"""One siege: the same sessions alone, then among hostile connections, then alone again.

What the attack's good requests and echoes cost the backend that answers them is not the gate's doing: it is
another process than the one behind the honest sessions. A few more speak to that one directly, and show what
the attack costs whoever is on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.backends import front, launch, wire
from tests.bench import process
from tests.chaos.leftovers import Reading, given_back, left_over, read
from tests.chaos.logs import gate_errors
from tests.hostile.honest import Sessions, percentile_ms

POLICY = """
extends: production
http: {body_idle_s: 5}
routes:
  - path: /limited
    limits: {message_bytes: 65536}
"""
WARM_UP_S = 3.0
DIRECT = 20
LONG = 1_000_000
MOST_RATIO = 3.0
MOST_GROWTH_KB = 128 * 1024
LEFT_KB = 32 * 1024


@dataclass(slots=True)
class Phase:
    """How long the echoes of a phase took."""

    echoes: int
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @classmethod
    def of(cls, times_s: list[float]) -> Phase:
        shares = (percentile_ms(times_s, share) for share in (0.5, 0.99, 1.0))
        return cls(len(times_s), *(round(share, 3) for share in shares))


@dataclass(slots=True)
class Siege:
    """What is asked for, and what came out of it. `wrong`: a sentence each.

    `cpu_s` and `waited_s`: the gate's while it was attacked; it waited for others that ran on its cores.
    """

    connections: int
    seconds: float
    sessions: int
    quiet_s: float
    seed: str
    phases: dict[str, Phase] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    cpu_s: float = 0.0
    waited_s: float = 0.0
    peak_kb: int = 0
    peak_descriptors: int = 0
    ends: dict[str, dict[str, int]] = field(default_factory=dict)
    backend: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    gate_log: str = ""

    async def through(self) -> None:
        """Start everything, go through it, judge."""
        with contextlib.ExitStack() as stack:
            backend = stack.enter_context(await asyncio.to_thread(_backend, launch.free_port()))
            gate = stack.enter_context(await asyncio.to_thread(front.gate, backend.url, POLICY))
            await self._run(gate, backend, stack)
            self.gate_log = gate.log()
            self.wrong += [f"the gate's log: {line[:500]}" for line in gate_errors(self.gate_log)]
            if gate.process.poll() is not None:
                self.wrong.append(f"the gate ended with {gate.process.returncode}")

    async def _run(self, gate: launch.Server, backend: launch.Server, stack: contextlib.ExitStack) -> None:
        honest = Sessions((gate.host, gate.port), self.sessions)
        direct = Sessions((backend.host, backend.port), DIRECT)
        for each in (honest, direct):
            await each.open()
        attacked = stack.enter_context(await asyncio.to_thread(_backend, backend.port, "attacked"))
        backend.process.send_signal(signal.SIGUSR1)
        await _warm_up((gate.host, gate.port))
        await asyncio.sleep(WARM_UP_S)
        quiet_s = await self._quiet(honest, direct)
        self.readings["before"] = await read(gate)
        honest.begin()
        direct.begin()
        watching = asyncio.create_task(self._watch(gate))
        cpu_s, waited_s = process.cpu_s(gate.pid), waited(gate.pid)
        self.ends = await self._attack(gate, honest, direct)
        watching.cancel()
        self.cpu_s, self.waited_s = process.cpu_s(gate.pid) - cpu_s, waited(gate.pid) - waited_s
        after = await given_back(gate, self.readings["before"], self._left)
        self.readings["after"] = after
        again_s = await self._quiet(honest, direct)
        self.phases["quiet"] = Phase.of(quiet_s[0] + again_s[0])
        self.phases["direct, quiet"] = Phase.of(quiet_s[1] + again_s[1])
        self.backend = json.loads(await _body((attacked.host, attacked.port), "/counts"))
        for each in (honest, direct):
            await each.leave()
        self.lost = honest.lost
        self._judge(after)

    async def _quiet(self, honest: Sessions, direct: Sessions) -> tuple[list[float], list[float]]:
        """Return what the honest measure when nobody else is there, for half of the quiet time."""
        honest.begin()
        direct.begin()
        await asyncio.sleep(self.quiet_s / 2)
        return honest.times_s, direct.times_s

    async def _attack(
        self, gate: launch.Server, honest: Sessions, direct: Sessions
    ) -> dict[str, dict[str, int]]:
        """Let the attacker loose; the echoes count while it opens connections."""
        words = [str(gate.port), str(self.connections), str(self.seconds), self.seed]
        command = [sys.executable, "-m", "tests.hostile.attacker", *words]
        attacker = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, cwd=launch.ROOT, env=launch.environment()
        )
        under_attack = asyncio.get_running_loop().call_later(self.seconds, self._attacked, honest, direct)
        try:
            async with asyncio.timeout(self.seconds * 2 + 60):
                told, _ = await attacker.communicate()
        except TimeoutError:
            self.wrong.append("the attacker was not over in time")
            return {}
        finally:
            under_attack.cancel()
            if attacker.returncode is None:
                attacker.kill()
        return json.loads(told) if told else {}

    def _attacked(self, honest: Sessions, direct: Sessions) -> None:
        """Note what the honest have measured; what is left to come are ends."""
        self.phases["under attack"] = Phase.of(honest.times_s)
        self.phases["direct, attacked"] = Phase.of(direct.times_s)

    async def _watch(self, gate: launch.Server) -> None:
        """Note the most memory and descriptors."""
        while True:
            self.peak_kb = max(self.peak_kb, process.memory_kb(gate.pid)[0])
            self.peak_descriptors = max(self.peak_descriptors, process.descriptors(gate.pid))
            await asyncio.sleep(0.5)

    def _left(self, before: Reading, after: Reading) -> list[str]:
        """Return what hostile connections have left behind; the honest sessions are still there."""
        wrong = left_over(Reading(0, before.descriptors, 0, before.tasks), _without(after, self.sessions))
        if after.rss_kb > before.rss_kb + LEFT_KB:
            wrong.append(f"{after.rss_kb} KB resident, {before.rss_kb} before")
        return wrong

    @property
    def ratio(self) -> float:
        """How much slower the honest were than without an attack."""
        return self.phases["under attack"].p99_ms / self.phases["quiet"].p99_ms

    def _judge(self, after: Reading) -> None:
        before = self.readings["before"]
        self.wrong += [f"lost: {what}" for what in self.lost]
        self.wrong += self._left(before, after)
        if "under attack" in self.phases and not self.ratio <= MOST_RATIO:
            self.wrong.append(f"p99 is {self.ratio:.1f} times that of the quiet time, {MOST_RATIO:g} at most")
        if self.peak_kb > before.rss_kb + MOST_GROWTH_KB:
            self.wrong.append(f"{self.peak_kb} KB resident at most, {before.rss_kb} before")
        opened = sum(sum(kind.values()) for kind in self.ends.values())
        if opened != self.connections:
            self.wrong.append(f"{opened} hostile connections of {self.connections}")
        for name in ("ambiguous", "smuggled"):
            if self.backend[name]:
                self.wrong.append(f"the backend got {self.backend[name]} {name} requests")

    def record(self) -> dict[str, object]:
        """Return all of it but the log."""
        return {name: value for name, value in asdict(self).items() if name != "gate_log"}


def waited(pid: int) -> float:
    """Return for how many seconds a process was ready and others had the cores; 0.0 where nobody counts."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _without(reading: Reading, sessions: int) -> Reading:
    return Reading(reading.sessions - sessions, reading.descriptors, reading.rss_kb, reading.tasks)


def _backend(port: int, *words: str) -> launch.Server:
    command = [sys.executable, "-m", "tests.hostile.backend", str(port), *words]
    return launch.ready(launch.start("hostile backend", command, port=port))


async def _warm_up(address: tuple[str, int]) -> None:
    """Let the gate make what it makes once: with the first long message, the pipe that splices them."""
    async with await wire.opened(address, "/ws") as client:
        client.send(wire.text("x" * LONG))
        assert len(await client.message()) == LONG
        await client.leave()


async def _body(address: tuple[str, int], path: str) -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with await wire.Wire.dial(address, request) as client:
        return await client.body()
