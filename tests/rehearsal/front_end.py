"""HAProxy as the platform's front end: whom it asks, whom it gives a session to, what it counts."""

from __future__ import annotations

import asyncio
import csv
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.backends import launch
from tests.rehearsal.network import PUBLIC_PORT, Place

HOST = "127.0.0.1"
# A tunnel may be silent for as long as the gate's keepalive lets it. A connect that is refused is tried with
# another pair at once: what a client's handshake meets is then a gate that takes it.
CONFIG = """
global
  maxconn 9000
  nbthread 1
  stats socket {socket} mode 600 level admin
defaults
  mode http
  timeout connect 2s
  timeout http-request 10s
  timeout client 30s
  timeout server 30s
  timeout check 2s
  timeout tunnel 1h
  retries 3
  option redispatch 1
frontend clients
  bind {host}:{port} backlog 4096
  default_backend pairs
backend pairs
  balance {balance}
  option httpchk
  http-check send meth GET uri /_readygate/readyz ver HTTP/1.1 hdr Host readygate
  http-check expect status 200
  default-server check inter 500ms fastinter 100ms fall 3 rise 1 disabled
{servers}
"""
# How many connects failed, tries of the same pair, and of another one.
COUNTED = ("econ", "wretr", "wredis")


@dataclass(frozen=True, slots=True)
class Look:
    """What the front end says at one moment: sessions of each pair, and which may get more."""

    at_s: float
    sessions: dict[str, int]
    in_service: frozenset[str]


class FrontEnd:
    """A running HAProxy; a context manager."""

    def __init__(self, places: Sequence[Place], balance: str) -> None:
        """Start it with all places, none in service. MissingToolError without HAProxy."""
        self.address = (HOST, PUBLIC_PORT)
        self._room = Path(tempfile.mkdtemp(prefix="readygate-haproxy-"))
        self._socket = self._room / "socket"
        config = self._room / "haproxy.cfg"
        servers = [f"  server {place.name} {place.public}:{PUBLIC_PORT}" for place in places]
        config.write_text(
            CONFIG.format(
                socket=self._socket, host=HOST, port=PUBLIC_PORT, balance=balance, servers="\n".join(servers)
            )
        )
        command = [launch.installed("haproxy"), "-db", "-f", str(config)]
        self.server = launch.start("haproxy", command, port=PUBLIC_PORT)
        self.server._room.callback(shutil.rmtree, self._room, ignore_errors=True)
        launch.ready(self.server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.stop()

    async def add(self, place: Place) -> None:
        """Put a pair into service, and wait until its health check says so."""
        await self._ask(f"enable server pairs/{place.name}")
        while place.name not in (await self.look()).in_service:
            await asyncio.sleep(0.05)

    async def remove(self, place: Place) -> None:
        """Forget a pair that has gone."""
        await self._ask(f"disable server pairs/{place.name}")

    async def look(self) -> Look:
        """Ask who has how many sessions now."""
        rows = await self._rows()
        return Look(
            asyncio.get_running_loop().time(),
            {row["svname"]: int(row["scur"]) for row in rows},
            frozenset(row["svname"] for row in rows if row["status"].startswith("UP")),
        )

    async def counted(self) -> dict[str, int]:
        """Return the sums of what it counts of its own troubles."""
        rows = await self._rows()
        return {name: sum(int(row[name] or 0) for row in rows) for name in COUNTED}

    async def _rows(self) -> list[dict[str, str]]:
        lines = (await self._ask("show stat pairs 4 -1")).removeprefix("# ").splitlines()
        return list(csv.DictReader(line for line in lines if line))

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(f"{command}\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.decode()
