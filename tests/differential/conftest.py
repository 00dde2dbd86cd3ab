"""The raw backend and the gate before it, once per test process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.backends import front
from tests.backends.launch import Server, free_port, ready, start
from tests.differential.exchange import Exchange, Orders, Seen, perform


@dataclass(frozen=True, repr=False)
class Ways:
    """Both ways to the backend: directly and through the gate."""

    backend: Server
    gate: Server

    def direct(self, exchange: Exchange) -> Seen:
        return self._perform(exchange, self.backend, gate=False)

    def through(self, exchange: Exchange) -> Seen:
        return self._perform(exchange, self.gate, gate=True)

    def _perform(self, exchange: Exchange, server: Server, *, gate: bool) -> Seen:
        with contextlib.closing(Orders(self.backend)) as orders:
            return perform(exchange, (server.host, server.port), orders, gate=gate)


@pytest.fixture(scope="session")
def ways() -> Iterator[Ways]:
    port, control = free_port(), free_port()
    command = [sys.executable, "-m", "tests.differential.backend", str(port), str(control)]
    with ready(start("raw", command, port=port)) as backend:
        backend.admin_port = control
        with front.gate(backend.url) as gate:
            yield Ways(backend, gate)
