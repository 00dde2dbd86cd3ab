"""An admin listener with a state to set, and a reader of its events."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from proxy.admin import (
    About,
    EventFeed,
    Health,
    LegSnapshot,
    NowSnapshot,
    SessionSnapshot,
    WindowSnapshot,
)
from proxy.admin.app import build
from proxy.telemetry.recent import Finished


class State:
    """An `AdminState` with values to set."""

    def __init__(self) -> None:
        self.feed = EventFeed()
        self.answers = {"alive": Health(True), "ready": Health(True), "started": Health(True)}
        self.recent: list[Finished] = []
        self.asked = 0  # how often somebody wanted to know

    def alive(self) -> Health:
        return self.answers["alive"]

    def ready(self) -> Health:
        return self.answers["ready"]

    def started(self) -> Health:
        return self.answers["started"]

    def sessions(self) -> list[SessionSnapshot]:
        legs = (
            LegSnapshot("open", 4, 400, unsent_bytes=3),
            LegSnapshot("stabilization", 1, 17, early_bytes=17),
        )
        return [SessionSnapshot("s1", "/ws/**", "/ws/a", "10.1.2.3", 1.23456, *legs, 1, "ab" * 16)]

    def newest(self, most: int) -> list[SessionSnapshot]:
        return self.sessions()[:most]

    def handshakes(self) -> list[Finished]:
        return self.recent

    def unix_ms(self, at_ms: float) -> float:
        return at_ms

    def now(self) -> NowSnapshot:
        self.asked += 1
        windows = [WindowSnapshot("/ws/**", 0.0, 25.0, 250.0, (25.0, 25.0, 2000.0))]
        return NowSnapshot(1, 0, 17, {"ready": 3}, windows, "production")

    def about(self) -> About:
        return About("1.0", "http://127.0.0.1:8000")

    def policy_text(self) -> str:
        return "handshake:\n  accept: mirrored\n"

    def metrics_text(self) -> str:
        return "# TYPE readygate_sessions_active gauge\nreadygate_sessions_active 0\n"


@asynccontextmanager
async def served(state: State, heartbeat_s: float = 30.0):
    runner = web.ServerRunner(web.Server(build(state, heartbeat_s)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
        try:
            yield client
        finally:
            state.feed.close()
            await runner.cleanup()


async def events(answer: aiohttp.ClientResponse):
    """Yield (event, data) pairs and comments as they arrive."""
    lines: list[str] = []
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if line:
            lines.append(line)
            continue
        if lines[0].startswith(":"):
            yield "comment", lines[0]
        else:
            yield lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))
        lines = []
