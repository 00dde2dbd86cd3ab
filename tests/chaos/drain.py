"""`python -m tests.chaos.drain`: SIGTERM to a gate with 2,000 open sessions; how is each client let go?

Preset production before an ordinary uvicorn application. Half of the sessions are at a handler that raises
the accept error when it hears too early that its client is gone. A share says something now and then, a few
without pause, so that replies are under way whenever they are closed. Some clients do not read at all: they
may be cut, but must keep nobody waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.backends import front, launch, wire
from tests.bench import idle, process
from tests.chaos.logs import backend_errors, gate_errors

SESSIONS = 2000
STALLED = 5
AT_ONCE = 100
TALKERS = 0.2
TALKS_EVERY_S = (0.2, 1.0)
CHATTERERS = 24
CHATS_EVERY_S = (0.002, 0.02)
STALLING = [b"x" * (1 << 18)] * 64  # more than the socket buffers on the way there and back hold
BUCKET_S = 0.1
MOST_IN_A_BUCKET = 0.10
WITHIN_S = 8.0
HANG_S = 30.0


@dataclass(slots=True)
class Drained:
    """What was seen. `closed`: seconds from SIGTERM to each client's end, and its code."""

    closed: list[tuple[float, int]] = field(default_factory=list)
    exit_s: float = 0.0
    exit_code: int | None = None
    stalled: int = 0
    backend_log: dict[str, int] = field(default_factory=dict)
    gate_log: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def properly(self) -> list[float]:
        """When clients were closed with 1012, in order."""
        return sorted(at for at, code in self.closed if code == 1012)

    @property
    def fullest(self) -> float:
        """The largest share of all closes that fell into one bucket, wherever its borders are."""
        return fullest(self.properly)

    def wrong(self) -> list[str]:
        """Return what must not be, a sentence each."""
        codes = Counter(code for _, code in self.closed if code != 1012)
        said = [f"{count} clients got {code}, not 1012" for code, count in codes.items()]
        if self.fullest > MOST_IN_A_BUCKET:
            said.append(f"{self.fullest:.1%} of the closes came within {BUCKET_S * 1000:.0f} ms")
        if self.exit_code != 0 or self.exit_s > WITHIN_S:
            said.append(f"exit code {self.exit_code} after {self.exit_s:.2f} s")
        said += [f"{count} {what} in the backend's log" for what, count in self.backend_log.items() if count]
        return said + [f"the gate logged {line[:1000]}" for line in self.gate_log] + self.trouble

    def lines(self) -> list[str]:
        """Return the figures in words."""
        times = self.properly or [0.0]
        return [
            f"closed with 1012           {len(self.properly)} of {len(self.closed)}",
            f"stalled besides            {self.stalled}",
            f"spread                     first {times[0]:.2f} s, median {times[len(times) // 2]:.2f} s, "
            f"last {times[-1]:.2f} s after SIGTERM",
            f"fullest {BUCKET_S * 1000:.0f} ms             {self.fullest:.1%} of the closes",
            f"exit                       code {self.exit_code} after {self.exit_s:.2f} s",
            f"backend's log              {self.backend_log}",
            *(f"WRONG: {what}" for what in self.wrong()),
        ]


def fullest(times: list[float], bucket_s: float = BUCKET_S) -> float:
    """Return the largest share of these moments, in order, that falls into one bucket; 1.0 for none."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= bucket_s:
            first += 1
        most = max(most, last - first + 1)
    return most / len(times) if times else 1.0


class Crowd:
    """The clients that are to be drained."""

    def __init__(self, gate: launch.Server, drained: Drained) -> None:
        self.address = (gate.host, gate.port)
        self.drained = drained
        self.dice = random.Random(1)
        self.clients: list[wire.Wire] = []
        self.signalled_s = 0.0
        self._talking: list[asyncio.Task[None]] = []

    async def open(self, count: int) -> None:
        """Open sessions, some at once, and exchange one message on each."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> wire.Wire:
            async with slots:
                client = await wire.opened(self.address, ("/ws/loop", "/ws/echo")[number % 2])
                client.send(wire.text("hello"))
                await client.message()
                return client

        self.clients = await asyncio.gather(*(one(number) for number in range(count)))
        talkers = self.dice.sample(self.clients, round(TALKERS * count))
        chatterers = [client for client in self.clients[::2] if client not in talkers][:CHATTERERS]
        self._talking = [
            asyncio.create_task(self._talk(client, every_s))
            for those, every_s in ((talkers, TALKS_EVERY_S), (chatterers, CHATS_EVERY_S))
            for client in those
        ]

    async def _talk(self, client: wire.Wire, every_s: tuple[float, float]) -> None:
        while not client.gone.is_set():
            client.send(*(wire.text(word) for word in ("are", "you", "still", "there?")))
            await asyncio.sleep(self.dice.uniform(*every_s))

    async def see_off(self) -> None:
        """Wait until each has heard its Close, or lost its connection."""
        await asyncio.gather(*(self._close_of(client) for client in self.clients))
        for task in self._talking:
            task.cancel()

    async def _close_of(self, client: wire.Wire) -> None:
        code = 1006
        try:
            while (frame := await client.frame()).opcode != 0x8:
                pass
            code = int.from_bytes(frame.payload[:2], "big")
        except wire.ClosedError:
            pass
        self.drained.closed.append((time.monotonic() - self.signalled_s, code))


async def stall(gate: launch.Server, count: int) -> list[wire.Wire]:
    """Return clients that have asked for much and read nothing of it, once the gate has stopped for them."""
    clients = []
    for _ in range(count):
        client = await wire.opened((gate.host, gate.port), "/ws/echo")
        client.transport.pause_reading()
        client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(*map(wire.binary, STALLING))
        clients.append(client)
    before = None
    while (passed := await _replied(gate)) != before:
        before = passed
        await asyncio.sleep(0.5)
    assert all(0 < size < sum(map(len, STALLING)) for size in passed), f"not stalled: {passed}"
    return clients


async def _replied(gate: launch.Server) -> list[int]:
    """Return how many bytes each session's upstream has said."""
    return [session["upstream"]["bytes"] for session in (await idle.admin(gate, "/sessions"))["sessions"]]


async def drain(count: int, gate: launch.Server, backend: launch.Server) -> Drained:
    """Open, stall, signal, watch, and wait until the backend has nobody left."""
    drained = Drained()
    files = process.descriptors(backend.pid)
    crowd = Crowd(gate, drained)
    stuck = await stall(gate, STALLED)
    drained.stalled = len(stuck)
    await crowd.open(count)
    if (open_now := await idle.session_count(gate)) != count + STALLED:
        drained.trouble.append(f"{open_now} sessions were open before SIGTERM, not {count + STALLED}")
    crowd.signalled_s = time.monotonic()
    gate.process.send_signal(signal.SIGTERM)
    exiting = asyncio.create_task(asyncio.to_thread(gate.process.wait, HANG_S))
    exiting.add_done_callback(lambda _: setattr(drained, "exit_s", time.monotonic() - crowd.signalled_s))
    await crowd.see_off()
    drained.exit_code = await exiting
    for client in [*stuck, *crowd.clients]:
        client.abort()

    async def alone() -> bool:
        return process.descriptors(backend.pid) <= files

    if not await idle.until(alone):
        drained.trouble.append(
            f"the backend still has {process.descriptors(backend.pid) - files} descriptors more"
        )
    return drained


def run(count: int) -> bool:
    """Do it, print and write what was seen; return whether anything is wrong."""
    launch.may_open()
    print(f"\ndrain of {count} sessions", flush=True)
    with launch.uvicorn("websockets-sansio") as backend, front.gate(backend.url) as gate:
        drained = uvloop.run(bounded(count, gate, backend))
        drained.backend_log = backend_errors(backend.log())
        drained.gate_log = gate_errors(gate.log())
    print("\n".join(drained.lines()), flush=True)
    results = Path("chaos-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("drain-%Y%m%d-%H%M%S.json")
    figures = {
        name: getattr(drained, name) for name in ("exit_s", "exit_code", "fullest", "backend_log", "closed")
    }
    path.write_text(json.dumps({"sessions": count, "wrong": drained.wrong()} | figures, indent=1))
    print(f"details in {path}", flush=True)
    return bool(drained.wrong())


async def bounded(count: int, gate: launch.Server, backend: launch.Server) -> Drained:
    """Only a hang reaches this bound."""
    async with asyncio.timeout(2 * HANG_S):
        return await drain(count, gate, backend)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.drain", description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    return int(run(parser.parse_args().sessions))


if __name__ == "__main__":
    sys.exit(main())
