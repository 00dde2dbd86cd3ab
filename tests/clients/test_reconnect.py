"""After a drain, and after the loss of the upstream, clients of real libraries come back and are served."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.request import urlopen

import pytest

from tests.backends import front, launch
from tests.backends.launch import Server
from tests.backends.socketio import clients, socketio, told, wait_until_told
from tests.integration.conftest import skipping

NAMES = ("ada", "bob", "cleo", "dan", "eve")
POLLING = "socket.io-client, polling first"


@dataclass(frozen=True)
class Crowd:
    """Clients of some kinds, five of each, and the backend that they talk to."""

    backend: Callable[..., Server]
    kinds: tuple[str, ...]

    def come(self, room: contextlib.ExitStack, gate: Server) -> list[Server]:
        """Let all connect, and wait until all were served."""
        address = f"{gate.host}:{gate.port}"
        url = {True: f"http://{address}", False: f"ws://{address}/ws/echo"}
        urls = {kind: url[kind.startswith("socket.io")] for kind in self.kinds}
        started = [room.enter_context(clients(kind, dict.fromkeys(NAMES, urls[kind]))) for kind in self.kinds]
        for group in started:
            wait_until_told(group, "heard", NAMES)
        return started


CROWDS = (
    pytest.param(Crowd(launch.library, ("websockets",)), id="python"),
    pytest.param(
        Crowd(socketio, ("reconnecting-websocket", "partysocket", "socket.io-client", POLLING)),
        id="node",
        marks=pytest.mark.needs_node,
    ),
)


def all_are_served_again(groups: list[Server], code: int) -> None:
    """Wait until all have come back, have heard their own name again, and have left."""
    for group in groups:
        wait_until_told(group, "left", NAMES)
        log = group.log()
        for name in NAMES:
            assert told(log, f"heard {name}").count(name) == 2, log
            assert told(log, f"closed {code}").count(name) == 1, log


def wait_until_held(gate: Server, sessions: int) -> None:
    """Wait until that many handshakes are pending in the gate."""
    until = time.monotonic() + launch.START_S
    wanted = f"readygate_handshakes_pending {sessions}"
    while wanted not in (text := metrics(gate)).splitlines():
        assert time.monotonic() < until, text
        time.sleep(launch.STEP_S)


def metrics(gate: Server) -> str:
    with urlopen(f"http://127.0.0.1:{gate.admin_port}/metrics") as answer:
        return answer.read().decode()


def redialled(gate: Server) -> int:
    """How many handshakes of this gate became sessions after they had found nobody at the upstream."""
    lines = [json.loads(line) for line in gate.log().splitlines() if line.startswith("{")]
    return sum(
        line["message"] == "session open" and "refused" in line.get("redial_causes", []) for line in lines
    )


@pytest.mark.parametrize("crowd", CROWDS)
def test_after_a_drain_every_client_comes_back_and_is_served_by_the_next_gate(crowd: Crowd):
    listen = f"127.0.0.1:{launch.free_port()}"
    with skipping(), contextlib.ExitStack() as room:
        backend = room.enter_context(crowd.backend())
        first = room.enter_context(front.gate(backend.url, "testing", listen=listen))
        groups = crowd.come(room, first)
        assert first.stop() == 0
        room.enter_context(front.gate(backend.url, "testing", listen=listen))
        all_are_served_again(groups, 1012)


@pytest.mark.parametrize("crowd", CROWDS)
def test_after_the_loss_of_the_upstream_every_client_comes_back_and_is_held_until_it_is_up(crowd: Crowd):
    port = launch.free_port()
    with skipping(), contextlib.ExitStack() as room:
        backend = room.enter_context(crowd.backend(port=port))
        gate = room.enter_context(front.gate(backend.url, "testing"))
        groups = crowd.come(room, gate)
        backend.process.kill()
        holdable = len(NAMES) * sum(kind != POLLING for kind in crowd.kinds)  # polls are plain HTTP
        wait_until_held(gate, holdable)
        room.enter_context(crowd.backend(port=port))
        all_are_served_again(groups, 1014)
        assert redialled(gate) >= holdable
