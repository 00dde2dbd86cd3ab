"""One real gate before one recording backend for all tests of the room; each begins with a clean sheet."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.backends import front
from tests.backends.launch import Server
from tests.hostile.peer import Peer
from tests.hostile.recorder import Recorder

POLICY = """
extends: production
handshake: {redial: {tries: 1}}
http: {header_deadline_s: 0.5, body_idle_s: 0.5, response_timeout_s: 5}
departure: {quiet_ms: 5, min_ms: 5}
routes:
  - path: /limited
    limits: {message_bytes: 1024}
"""


@dataclass
class Stand:
    gate: Server
    backend: Recorder

    def peer(self, **options: int) -> Peer:
        return Peer(self.gate.port, **options)

    def fence(self) -> list[bytes]:
        """Ask for something honest; return what else the backend had been asked for when it is answered."""
        with self.peer() as honest:
            honest.send(b"GET /fence HTTP/1.1\r\nHost: example.test\r\n\r\n")
            assert honest.responses(1)[0].start[0] == b"200"
        return [target for target in self.backend.targets() if target != b"/fence"]


@pytest.fixture(scope="session")
def standing() -> Iterator[Stand]:
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Recorder().listening())
        gate = front.gate(f"http://127.0.0.1:{backend.port}", POLICY)
        stack.callback(gate.stop, signal.SIGKILL)  # a drain would wait for connections that linger
        yield Stand(gate, backend)


@pytest.fixture
def stand(standing: Stand) -> Iterator[Stand]:
    """The stand, with nothing on it; afterwards the gate is up and has had no error of its own."""
    standing.backend.forget()
    standing.gate.mark()
    yield standing
    assert standing.gate.process.poll() is None
    lines = [line for line in standing.gate.log().splitlines() if line.startswith("{") and line.endswith("}")]
    assert [line for line in lines if json.loads(line)["severity"] not in {"INFO", "WARNING"}] == []
