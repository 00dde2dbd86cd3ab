"""CPU of the proxy per 64-byte echo, the gate against nginx, interleaved in one run."""

from __future__ import annotations

import asyncio
import os
import statistics
from contextlib import ExitStack

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.backends import front
from tests.bench import process
from tests.bench.figure import Figure, echo_backend

CONNECTIONS = 100
PAYLOAD = bytes(range(64))
TARGET_RATIO = 1.6
WARM_UP_S = 0.5


class Volley(WSListener):
    """Sends the next message as soon as the last one is back, while `running`."""

    running = False

    def __init__(self) -> None:
        self.echoes = 0
        self.idle = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def serve(self) -> None:
        self.idle.clear()
        self.transport.send(WSMsgType.BINARY, PAYLOAD)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        self.echoes += 1
        if Volley.running:
            transport.send(WSMsgType.BINARY, PAYLOAD)
        else:
            self.idle.set()


async def connect(url: str) -> list[Volley]:
    async def one() -> Volley:
        _, listener = await ws_connect(Volley, f"{url}/ws/echo".replace("http", "ws", 1))
        return listener

    return [await one() for _ in range(CONNECTIONS)]


async def play(volleys: list[Volley], pid: int, seconds: float) -> tuple[float, float]:
    """Keep all connections busy; return (CPU in microseconds per echo, echoes per second) of the process."""
    Volley.running = True
    for volley in volleys:
        volley.serve()
    await asyncio.sleep(WARM_UP_S)
    began, cpu, echoes = asyncio.get_running_loop().time(), process.cpu_s(pid), count(volleys)
    await asyncio.sleep(seconds)
    took = asyncio.get_running_loop().time() - began
    cpu, echoes = process.cpu_s(pid) - cpu, count(volleys) - echoes
    Volley.running = False
    for volley in volleys:
        await volley.idle.wait()
    return cpu / echoes * 1e6, echoes / took


def count(volleys: list[Volley]) -> int:
    return sum(volley.echoes for volley in volleys)


async def rounds(pids: dict[str, int], urls: dict[str, str], times: int, seconds: float) -> dict[str, list]:
    volleys = {name: await connect(url) for name, url in urls.items()}
    seen: dict[str, list] = {name: [] for name in urls}
    for turn in range(times):
        for name in urls if turn % 2 else reversed(urls):
            seen[name].append(await play(volleys[name], pids[name], seconds))
    for listeners in volleys.values():
        for volley in listeners:
            volley.transport.disconnect()
    return seen


def measure(times: int, seconds: float) -> Figure:
    """Run the rounds. The proxies have one core, backend and client the other."""
    mine, theirs = sorted(os.sched_getaffinity(0))[:2]
    with ExitStack() as stack:
        backend = stack.enter_context(echo_backend())
        servers = {
            "nginx": stack.enter_context(front.nginx(backend.url)),
            "gate": stack.enter_context(front.gate(backend.url)),
        }
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {mine})
        stack.callback(os.sched_setaffinity, 0, cores)
        process.pin(backend.pid, mine)
        for server in servers.values():
            process.pin(server.pid, theirs)
        pids = {"nginx": front.nginx_worker(servers["nginx"]), "gate": servers["gate"].pid}
        urls = {name: server.url for name, server in servers.items()}
        seen = uvloop.run(rounds(pids, urls, times, seconds))
    ratios = [gate[0] / nginx[0] for gate, nginx in zip(seen["gate"], seen["nginx"], strict=True)]
    ratio = statistics.median(ratios)
    lines = [
        f"{name:<6} {statistics.median(cpu for cpu, _ in turns):6.2f} us CPU per echo, "
        f"{statistics.median(rate for _, rate in turns):8.0f} echoes/s"
        for name, turns in seen.items()
    ]
    lines.append(f"ratio  {ratio:6.2f} (rounds {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return Figure(
        "relay CPU per 64-byte echo, 100 connections", "ratio", ratio, TARGET_RATIO, lines, {"rounds": seen}
    )
