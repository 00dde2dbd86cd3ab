"""What the chaos happens to: clients' relay, gate, upstream's relay, and a backend that can be killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.backends import front, launch
from tests.bench import idle
from tests.chaos.relay import Relay

KEEPALIVE_S = 3.0
DEPARTURE_S = 3.0
POLICY = f"""
extends: production
keepalive:
  client: {{interval_s: 1, timeout_s: {KEEPALIVE_S}}}
  upstream: {{interval_s: 1, timeout_s: {KEEPALIVE_S}}}
departure: {{max_s: {DEPARTURE_S}}}
"""


def ledger(port: int, journal: Path) -> launch.Server:
    """Start `ledger.py` on uvicorn; it is not ready yet."""
    options = ["--ws", "websockets-sansio", "--port", str(port), "--timeout-graceful-shutdown", "3"]
    quiet = ["--log-level", "warning", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", "tests.backends.ledger:app", *options, *quiet]
    return launch.start("ledger", command, port=port, env=launch.environment(LEDGER_JOURNAL=str(journal)))


class Stand:
    """`clients_side` is a relay before the gate, `upstream_side` one behind it."""

    def __init__(self, room: Path) -> None:
        self.journal = room / "journal"
        self.backend_port = launch.free_port()
        self.backend_log = ""
        self.backend: launch.Server
        self.gate: launch.Server
        self.clients_side: Relay
        self.upstream_side: Relay

    @classmethod
    @asynccontextmanager
    async def up(cls, policy: str) -> AsyncIterator[Stand]:
        """Start everything; stop what is still there at the end."""
        async with AsyncExitStack() as stack:
            room = stack.enter_context(tempfile.TemporaryDirectory(prefix="readygate-chaos-"))
            stand = cls(Path(room))
            backend = ("127.0.0.1", stand.backend_port)
            stand.upstream_side = await stack.enter_async_context(Relay.listening(backend))
            await stand.start_backend()
            stack.callback(lambda: stand.backend.stop(signal.SIGKILL))
            url = f"http://127.0.0.1:{stand.upstream_side.port}"
            stand.gate = stack.enter_context(await asyncio.to_thread(front.gate, url, policy))
            gate = (stand.gate.host, stand.gate.port)
            stand.clients_side = await stack.enter_async_context(Relay.listening(gate))
            yield stand

    async def start_backend(self) -> None:
        """Start it, and let the gate find it only when it takes connections."""
        backend = ledger(self.backend_port, self.journal)
        self.backend = await asyncio.to_thread(launch.ready, backend)
        await self.upstream_side.open()

    async def end_backend(self, signum: int) -> None:
        """End it; from now on its port refuses."""
        self.upstream_side.shut()
        self.backend.process.send_signal(signum)
        await asyncio.to_thread(self.backend.process.wait)
        self.keep_log()
        self.backend.stop()

    def keep_log(self) -> None:
        """Remember what the backend wrote; its file goes with it."""
        self.backend_log += self.backend.log()

    def signal(self, signum: int) -> None:
        self.backend.process.send_signal(signum)

    async def sessions(self) -> set[str]:
        """Return the identities of all sessions that the gate knows of."""
        answer = await idle.admin(self.gate, "/sessions")
        return {session["path"].rpartition("/")[2] for session in answer["sessions"]}
