"""A pair: an application and the gate beside it, as they stand together in a pod or an instance."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.backends import front, launch, wire
from tests.bench import process
from tests.chaos.accounts import Visit, read_journal
from tests.chaos.logs import backend_errors, gate_errors
from tests.rehearsal.network import ADMIN_PORT, APP_PORT, PUBLIC_PORT, Place

START_S = 30.0
HANG_S = 30.0
PUSHES_EVERY_S = 10
# uvicorn ends itself by the signal that ended it; a shell says so in its own way.
APP_CODES = {0, -signal.SIGTERM, 128 + signal.SIGTERM}
# An application that hears of SIGTERM only later, for platforms that tell all containers at once. The trap
# ends the first `wait`; the second one is for the application.
LATE = '"$@" & app=$!; trap "sleep {after_s:g}; kill $app" TERM; wait $app; wait $app'


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a pair that was stopped.

    `took_s`: from SIGTERM until the gate had gone. `hurried`: sessions left near the end of its grace, whose
    upstreams were not quiet and are told all the same. `gate_kb`: resident memory before.
    """

    gate_code: int
    app_code: int
    took_s: float
    gate_kb: int
    hurried: int
    gate_log: list[str]
    app_log: dict[str, int]

    def wrong(self) -> list[str]:
        """Return what must not be, a sentence each."""
        said = [f"the gate ended with {self.gate_code}"] if self.gate_code else []
        if self.app_code not in APP_CODES:
            said.append(f"the application ended with {self.app_code}")
        said += [f"the gate logged {line[:500]}" for line in self.gate_log]
        return said + [
            f"{count} {what} in the application's log" for what, count in self.app_log.items() if count
        ]


def hurried(log: str) -> int:
    """Return how many sessions a gate says were left near the end of its grace."""
    return sum(map(int, re.findall(r'"message": ?"sessions cut".*?"sessions": ?(\d+)', log)))


class Pair:
    """A gate, and `tests/backends/ledger.py` on uvicorn: it writes down what it hears before it answers."""

    def __init__(self, place: Place, room: Path, policy: str, app_waits_s: float = 0.0) -> None:
        """Start both; neither is ready yet. `app_waits_s`: how long SIGTERM is kept from the latter."""
        self.place = place
        self._journal = room / place.name
        options = ["--ws", "websockets-sansio", "--host", place.local, "--port", str(APP_PORT)]
        quiet = ["--log-level", "warning", "--no-access-log"]
        command = [sys.executable, "-m", "uvicorn", "tests.backends.ledger:app", *options, *quiet]
        settings = {"LEDGER_JOURNAL": str(self._journal), "LEDGER_EVERY_S": str(PUSHES_EVERY_S)}
        late = ["sh", "-c", LATE.format(after_s=app_waits_s), "sh"] if app_waits_s else []
        self.app = launch.start("app", [*place.inside, *late, *command], env=launch.environment(**settings))
        flags = {
            "upstream": f"http://{place.local}:{APP_PORT}",
            "listen": f"{place.public}:{PUBLIC_PORT}",
            "admin": f"{place.local}:{ADMIN_PORT}",
            "policy": policy,
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        silent = launch.environment(READYGATE_LOG_LEVEL="WARNING")  # two lines a session tell nothing here
        self.gate = launch.start("gate", [*place.inside, *front.GATE, "run", *words], env=silent)

    async def ready(self) -> None:
        """Wait until the application answers through the gate. RuntimeError when it does not."""
        async with asyncio.timeout(START_S):
            while not await self._answers():
                if self.gate.process.poll() is not None or self.app.process.poll() is not None:
                    raise RuntimeError(f"{self.place.name} did not start:\n{self.gate.log()}{self.app.log()}")
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        request = b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n"
        try:
            client = await wire.Wire.dial((self.place.public, PUBLIC_PORT), request)
            return (await client.head()).status == 204
        except (OSError, wire.ClosedError):
            return False

    async def retire(self, *, both: bool = False) -> Ended:
        """SIGTERM to the gate, and to the application when the gate has gone, or to `both` at once."""
        gate_kb, began_s = process.memory_kb(self.gate.pid)[0], time.monotonic()
        self.gate.process.send_signal(signal.SIGTERM)
        if both:
            self.app.process.send_signal(signal.SIGTERM)
        gate_code = await asyncio.to_thread(self.gate.process.wait, HANG_S)
        took_s = time.monotonic() - began_s
        if not both:
            self.app.process.send_signal(signal.SIGTERM)
        app_code = await asyncio.to_thread(self.app.process.wait, HANG_S)
        log = self.gate.log()
        logs = hurried(log), gate_errors(log), backend_errors(self.app.log())
        self.kill()
        return Ended(gate_code, app_code, took_s, gate_kb, *logs)

    def kill(self) -> None:
        """End what is still there."""
        for server in (self.gate, self.app):
            children = process.family(server.pid)[1:] if server.process.poll() is None else []
            server.stop(signal.SIGKILL)
            for child in children:  # of the shell
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def records(self) -> dict[str, list[Visit]]:
        """Return what the application wrote down, whichever of its processes is still there."""
        if not self._journal.exists():
            return {}
        with self._journal.open() as lines:
            return read_journal(lines)
