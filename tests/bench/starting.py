"""How long it takes to start: from exec to the line that says that the gate listens, alone on one core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial

from tests.backends.front import GATE as COMMAND
from tests.backends.launch import ROOT, environment, free_port
from tests.bench import process
from tests.bench.result import GATE, Reading, Result, interleave
from tests.bench.stand import Plan

BOUND_S = 30.0
TURNS = 3  # in a round
NOBODY = "http://127.0.0.1:9"  # it is not dialled before a client comes
WAYS: dict[str, dict[str, str]] = {
    GATE: {},
    "gate + OTLP, HTTP": {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    "gate + OTLP, gRPC": {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    "gate, 2 workers": {"READYGATE_WORKERS": "2"},
}


async def starting(plan: Plan) -> Result:
    """Run it. `cpu_ms` is the CPU until then, of the process and its workers."""
    result = Result("start", 'from exec to "readygate listening", on one core', "start", "cpu_ms")
    await asyncio.to_thread(start, GATE)  # so that all files are in the page cache, and compiled
    turn = partial(asyncio.to_thread, start)
    await interleave(result, list(WAYS), plan.rounds * plan.size(TURNS, 1), turn, BOUND_S)
    return result


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Let this thread, and so what it starts, run on one core only."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def start(way: str) -> Reading:
    """Start one, stop it when it has said its line."""
    told = WAYS[way]
    if "OTEL_EXPORTER_OTLP_PROTOCOL" in told:
        told = told | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    where = ["--upstream", NOBODY, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    began = time.perf_counter()
    with one_core():
        gate = subprocess.Popen(
            [*COMMAND, "run", *where], cwd=ROOT, env=environment(**told), stdout=subprocess.PIPE
        )
    assert gate.stdout is not None
    with gate:
        try:
            line = gate.stdout.readline()
            took_s, cpu_s = time.perf_counter() - began, process.cpu_s(gate.pid)
        finally:
            gate.send_signal(signal.SIGTERM)
            gate.stdout.read()
    if not line.startswith(b"readygate listening"):
        raise RuntimeError(f"it did not start: {line!r}")
    return {"started_ms": took_s * 1e3, "cpu_ms": cpu_s * 1e3}
