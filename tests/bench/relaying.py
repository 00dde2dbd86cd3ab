"""Workloads on open connections: echoes by size and number, bursts, pushes, deflated and fragmented ones."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.backends.flaky import encode
from tests.bench import backend, peers
from tests.bench.crowd import Crowd, Shot
from tests.bench.result import DIRECT, GATE, Reading, Result, interleave, told
from tests.bench.stand import Plan, Stand, Start, stand

TEXT, BINARY, CONTINUATION, FIN, RSV1 = 0x1, 0x2, 0x0, 0x80, 0x40
AT_100 = "gate at 100"
CLIENT_FILES = 500  # descriptors of the client and the backend that are not connections
QUICK_CONNECTIONS = 200
OPEN_ALL_S = 120.0
WARM_UP = 30  # the gate watches the first 20 of a route for longer


def masked(first: int, payload: bytes) -> bytes:
    return encode(first, payload, os.urandom(4))


def echo(size: int, burst: int = 1) -> Shot:
    """Return `burst` binary messages of this many bytes in one write."""
    return Shot(masked(FIN | BINARY, os.urandom(size)) * burst, burst)


def push(size: int, connections: int, group: str) -> Shot:
    """Return a message that the backend sends to all connections of a group."""
    return Shot(masked(FIN | BINARY, os.urandom(size)), connections, path=f"/push/{group}", together=True)


def deflated() -> Shot:
    """Return one message of JSON as permessage-deflate sends it (RFC 7692 section 7.2.1)."""
    rows = [{"id": number, "room": "lobby", "text": f"message number {number}"} for number in range(64)]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(json.dumps(rows).encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = masked(FIN | RSV1 | TEXT, packed.removesuffix(b"\x00\x00\xff\xff"))
    return Shot(frame, extensions=backend.DEFLATE)


def fragmented(size: int, parts: int) -> Shot:
    """Return one message in several frames in one write."""
    part = os.urandom(size // parts)
    frames = [
        masked(BINARY, part),
        *[masked(CONTINUATION, part)] * (parts - 2),
        masked(FIN | CONTINUATION, part),
    ]
    return Shot(b"".join(frames))


@dataclass(frozen=True, slots=True)
class Relaying:
    """A workload. `beside`: a second gate with this many connections takes turns too.

    `times`: how much longer its turns are, so that every connection has several round trips in one.
    """

    title: str
    connections: int
    size: int = 64
    burst: int = 1
    beside: int = 0
    times: int = 1
    kind: str = "echo"

    def shot(self, connections: int, way: str) -> Shot:
        if self.kind == "push":
            return push(self.size, connections, way)
        if self.kind == "deflated":
            return deflated()
        return fragmented(self.size, 4) if self.kind == "fragmented" else echo(self.size, self.burst)


RELAYING = {
    "echo-64B-1": Relaying("echo of 64 B, 1 connection", 1),
    "echo-64B-100": Relaying("echo of 64 B, 100 connections", 100),
    "echo-64B-1000": Relaying("echo of 64 B, 1,000 connections", 1000),
    "echo-64B-5000": Relaying("echo of 64 B, 5,000 connections", 5000, beside=100, times=2),
    "echo-1KiB-100": Relaying("echo of 1 KiB, 100 connections", 100, 1024),
    "echo-64KiB-20": Relaying("echo of 64 KiB, 20 connections", 20, 1 << 16),
    "echo-1MiB-4": Relaying("echo of 1 MiB, 4 connections", 4, 1 << 20),
    "burst-8": Relaying("bursts of 8 x 64 B, 100 connections", 100, burst=8),
    "burst-64": Relaying("bursts of 64 x 64 B, 100 connections", 100, burst=64),
    "fanout-1000": Relaying("push of 64 B, one to 1,000 connections", 1000, kind="push"),
    "deflated": Relaying("echo of JSON by permessage-deflate, 100 connections", 100, kind="deflated"),
    "fragmented": Relaying("echo of 1 KiB in 4 fragments, 100 connections", 100, 1024, kind="fragmented"),
}


async def measure(name: str, plan: Plan) -> Result:
    """Run one of them. All connections of a group of ways are open while its ways take turns."""
    work = RELAYING[name]
    connections = plan.connections(work.connections, QUICK_CONNECTIONS)
    seconds = plan.seconds * work.times
    result = Result(name, work.title, "message", "cpu_us")
    if connections < work.connections:
        result.notes.append(f"{connections} connections only")
    starts: dict[str, Start] = {way: peers.START[way] for way in plan.ways if way != DIRECT}
    if work.beside and GATE in starts:
        starts[AT_100] = peers.gate
    with stand(backend.start, starts) as running:
        ways = [way for way in [*plan.ways, AT_100] if way in running.ways]
        crowds: dict[str, Crowd] = {}
        for group in groups(ways, connections, plan.files - CLIENT_FILES):
            for way in set(crowds) - set(group):
                crowds.pop(way).close()
            for way in group:
                if way not in crowds and way not in result.failed:
                    count = min(work.beside, connections) if way == AT_100 else connections
                    await opened(result, running, crowds, way, work.shot(count, way), count)

            async def turn(way: str) -> Reading:
                return await crowds[way].play(seconds, lambda: running.meter(way))

            await interleave(result, group, plan.rounds, turn, bound_s=seconds * 4 + 20)
        for crowd in crowds.values():
            crowd.close()
    if connections == 1:
        result.notes += above_direct(result)
    return result


def above_direct(result: Result) -> list[str]:
    """Return what each way adds to the round trip, a line each."""
    told = []
    for way in result.ways:
        added = [statistics.median(result.above_direct(way, name) or [0.0]) for name in ("p50_us", "p99_us")]
        if way != DIRECT and any(added):
            told.append(f"{way}, above direct: {added[0]:.1f} us at p50, {added[1]:.1f} us at p99")
    return told


async def opened(
    result: Result, running: Stand, crowds: dict[str, Crowd], way: str, shot: Shot, count: int
) -> None:
    """Warm a way up and open its crowd; a way that cannot is noted."""
    crowd = Crowd(shot)
    try:
        async with asyncio.timeout(OPEN_ALL_S):
            warm = Crowd(replace(shot, path=shot.path + "/warm"))
            await warm.open(running.address(way), min(count, WARM_UP))
            warm.close()
            await crowd.open(running.address(way), count)
        crowds[way] = crowd
    except Exception as error:
        result.failed[way] = f"could not open {count} connections: {told(error)}"
        crowd.close()


def groups(ways: list[str], connections: int, room: int) -> Iterator[list[str]]:
    """Yield the ways in groups whose connections fit into `room` at once; the gate is in every group.

    The second gate has few connections and goes with the first group.
    """
    others = [way for way in ways if way not in {GATE, AT_100}]
    fit = max(1, room // connections - (GATE in ways))
    for start in range(0, max(len(others), 1), fit):
        left_out = {*others[:start], *others[start + fit :], *([AT_100] if start else [])}
        yield [way for way in ways if way not in left_out]
