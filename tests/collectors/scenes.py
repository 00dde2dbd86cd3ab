"""Two gates and what their clients meet: each fault of the race in small numbers, and what it leaves out.

`chat` stands before an ordinary application, `cold` before a backend that falls over. Both are revisions of
one service, so that one can be told from the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.backends import front, launch, wire
from tests.backends.launch import Server
from tests.race.families import FAMILIES
from tests.race.family import Run

CHAT = """
extends: production
limits: {header_bytes: 2048}
guard: {origins: ["https://chat.example"]}
routes:
  - path: /ws/ingest/**
    handshake: {deadline_s: 0.3}
  - path: /ws/announce
    session: {max_s: 0.2, jitter: 0}
  - path: /ws/request
    guard: {jwt: {sources: [{from: authorization}], algorithms: [HS256], keys: [{kind: secret, env: SECRET}]}}
  - path: /ws/protocol
    guard:
      jwt:
        sources: [{from: authorization}]
        algorithms: [ES256]
        jwks: {url: "http://127.0.0.1:9/keys", min_refresh_s: 1, timeout_s: 1}
"""
COLD = """
extends: production
drain: {spread_s: 2, grace_s: 5}
routes:
  - path: /cold
  - path: /silent
    rewrite: /echo
"""
# Well formed, by a key that nobody has: {"alg":"ES256","kid":"k"}, {}.
TOKEN = f"eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.{'A' * 86}"
REVISIONS = {"chat": "chat-00001-aaa", "cold": "chat-00002-bbb"}


class Scenes:
    """Two gates: `start`, then `play` rounds of everything, as many as wanted; `drain` ends the cold one."""

    def __init__(self, room: Path, stack: contextlib.ExitStack) -> None:
        self._stack, self._rounds = stack, 0
        self.targets = [f"127.0.0.1:{launch.free_port()}" for _ in REVISIONS]  # the admin ports
        self._policy = room / "chat.yaml"
        self._policy.write_text(CHAT)

    def start(self) -> None:
        """Start both gates and what is behind them."""
        with ThreadPoolExecutor(2) as both:
            chat, cold = both.submit(self._start_chat), both.submit(self._start_cold)
        (self.application, self.chat), (self.flaky, self.cold) = chat.result(), cold.result()

    def _start_chat(self) -> tuple[Server, Server]:
        backend = self._stack.enter_context(launch.uvicorn())
        env = {"K_REVISION": REVISIONS["chat"], "SECRET": "s" * 32}
        gate = front.gate(backend.url, str(self._policy), env=env, admin=self.targets[0])
        return backend, self._stack.enter_context(gate)

    def _start_cold(self) -> tuple[Server, Server]:
        backend = self._stack.enter_context(launch.flaky())
        env = {"K_REVISION": REVISIONS["cold"], "OTEL_BSP_SCHEDULE_DELAY": "50"}
        # Nobody listens. An export is tried again for as long as it may take; what is lost counts only then.
        env |= {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}
        env |= {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.5"}
        gate = front.gate(backend.url, COLD, env=env, admin=self.targets[1])
        return backend, self._stack.enter_context(gate)

    async def play(self) -> None:
        """Let all clients come once, all at the same time, and wait for them."""
        self._rounds += 1
        chat, cold = (self.chat.host, self.chat.port), (self.cold.host, self.cold.port)
        visits: list[Coroutine[Any, Any, object]] = [
            *(
                self._family(name, self.application, chat)
                for name in ("early", "slow", "push", "send-and-leave")
            ),
            *(self._family(name, self.flaky, cold) for name in ("cold", "dropped")),
            *(refused(cold, f"/cold?id=storm-{self._rounds}-{n}&refuse=5&status=503", 101) for n in range(4)),
            *(silent(cold) for _ in range(3)),
            *(refused(chat, f"/ws/ingest/{n}?wait=5", 503) for n in range(3)),
            *(refused(chat, "/ws/reject", 403) for _ in range(2)),
            refused(chat, "/ws/echo", 403, "Origin: https://evil.example"),
            refused(chat, "/ws/request", 401),
            refused(chat, "/ws/protocol", 503, f"Authorization: Bearer {TOKEN}"),
            refused(chat, "/ws/echo", 431, f"X-Long: {'x' * 3000}"),
            *(abandoned(chat) for _ in range(2)),
            outlived(chat),
            plain(chat, b"GET /ws/config HTTP/1.1\r\n", 200),
            *(plain(chat, b"POST /items HTTP/1.1\r\nContent-Length: 1\r\n", 500, b"\xff") for _ in range(3)),
        ]
        await asyncio.gather(*visits)

    async def _family(self, name: str, backend: Server, address: tuple[str, int]) -> None:
        """A family of the race, through the gate."""
        run = Run(address, backend, lambda: backend, f"gate{self._rounds}", 4, 4)
        unserved = [outcome for outcome in await FAMILIES[name].clients(run) if not outcome.served]
        assert not unserved, f"{name}: {unserved}"

    def refuse_a_policy(self) -> None:
        """Let the chat gate load a policy with an error."""
        self._policy.write_text(CHAT + "nonsense: 1\n")
        self.chat.process.send_signal(signal.SIGHUP)
        self.chat.wait_for_log(lambda text: "policy refused" in text)

    async def drain(self) -> list[wire.Wire]:
        """Open sessions, then tell the cold gate to stop; it takes two seconds for that."""
        clients = [await wire.opened((self.cold.host, self.cold.port), "/echo") for _ in range(4)]
        self.cold.process.send_signal(signal.SIGTERM)
        return clients


async def refused(address: tuple[str, int], path: str, status: int, *fields: str) -> None:
    """A client that gets this status; one that gets 101 leaves properly."""
    async with await wire.Wire.dial(address, wire.upgrade(path, *fields)) as client:
        head = await client.head()
        assert head.status == status, (path, head)
        if status == 101:
            await client.leave()


async def silent(address: tuple[str, int]) -> None:
    """A client that answers no pings: the gate opens without proof."""
    client = await wire.opened(address, "/silent", early=wire.text("hello"), answer_pings=False)
    assert await client.message() == b"hello"
    await client.leave()


async def abandoned(address: tuple[str, int]) -> None:
    """A client that leaves before the backend accepts."""
    client = await wire.Wire.dial(address, wire.upgrade("/ws/slow?wait=0.2"))
    client.send(wire.text("bye"))
    client.hang_up()
    await client.gone.wait()


async def outlived(address: tuple[str, int]) -> None:
    """A session that the gate ends for its age."""
    client = await wire.opened(address, "/ws/announce")
    with contextlib.suppress(wire.ClosedError):
        while True:
            await client.message()


async def plain(address: tuple[str, int], head: bytes, status: int, body: bytes = b"") -> None:
    """Plain HTTP."""
    first = head + b"Host: example.test\r\nConnection: close\r\n\r\n" + body
    async with await wire.Wire.dial(address, first) as client:
        assert (await client.head()).status == status
