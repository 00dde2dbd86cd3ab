"""What is measured of the image: size, start, memory, drain. From outside of the containers."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.backends.launch import ROOT
from tests.bench.process import cpu_s, memory_kb
from tests.image.bases import Bases
from tests.image.building import IMAGE
from tests.image.containers import STOP_S, Container, gate
from tests.image.engine import FailedError, podman, run
from tests.image.row import Row

LISTENING = "readygate listening"
FOUND = {"early": "early", "large": 65_536, "status": 200, "body": {"heartbeat_s": 25, "protocols": ["chat"]}}
CGROUPS = Path("/sys/fs/cgroup")


# -- size ---------------------------------------------------------------------------------------------------


def size(bases: Bases) -> list[Row]:
    """Bytes on disk and to pull, of the whole and of what this project adds to the base."""
    whole, below = (
        int(podman("image", "inspect", image, "--format", "{{.Size}}")) for image in (IMAGE, bases.final)
    )
    pulled = _compressed()
    layers = len(json.loads(podman("image", "inspect", bases.final))[0]["RootFS"]["Layers"])
    added = sum(pulled[layers:])
    return [
        Row(
            "size on disk",
            f"{whole / 1e6:.0f} MB, of which on top of the base {(whole - below) / 1e6:.0f} MB",
        ),
        Row(
            "size to pull (gzip)",
            f"{sum(pulled) / 1e6:.0f} MB, of which on top of the base {added / 1e6:.0f} MB",
        ),
    ]


def _compressed() -> list[int]:
    """Return the bytes of each layer as a registry holds them, the base's first."""
    with tempfile.TemporaryDirectory(prefix="readygate-layers-") as room:
        run(["buildah", "push", "--quiet", IMAGE, f"oci:{room}"], bound_s=300)
        index = json.loads((Path(room) / "index.json").read_text())
        manifest = Path(room) / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
        return [layer["size"] for layer in json.loads(manifest.read_text())["layers"]]


# -- start --------------------------------------------------------------------------------------------------


def starts(limits: list[str], times: int) -> Row:
    """From the exec of the image's program to its line on stdout, with the files in the page cache."""
    took, cpu = zip(*(_start_ms(limits) for _ in range(times)), strict=True)
    spread = f"median {statistics.median(took):.0f} ms of {times} (from {min(took):.0f} to {max(took):.0f})"
    return Row("from exec to listening", f"{spread}; CPU {statistics.median(cpu):.0f} ms")


def _start_ms(limits: list[str]) -> tuple[float, float]:
    """Return how long a start took, and the CPU time of it, which other work on the machine changes less."""
    with gate("none", limits) as container:
        executed = container.executed_at()
        container.wait_for_log(LISTENING)
        told = podman("logs", "--timestamps", container.name).split()[0]
        return (datetime.fromisoformat(told).timestamp() - executed) * 1e3, cpu_s(container.pid) * 1e3


# -- sessions -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Clients:
    """The process in the containers' network namespace that plays the clients."""

    process: subprocess.Popen[str]

    def step(self) -> dict[str, object]:
        """Return its next line. FailedError when it has ended instead."""
        line = self.process.stdout.readline()
        if not line:
            raise FailedError(f"the clients failed:\n{self.process.stderr.read()[-3000:]}")
        return json.loads(line)


@contextlib.contextmanager
def clients(container: Container, sessions: int) -> Iterator[Clients]:
    """Run the clients beside a container."""
    module = [sys.executable, "-m", "tests.image.inside", str(sessions)]
    command = ["nsenter", "--target", str(container.pid), "--net", *module]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Clients(process)
        finally:
            process.kill()


def memory(pid: int) -> str:
    """Resident memory by the kernel's count, and what the container's cgroup is charged with."""
    resident, _ = memory_kb(pid)
    charged = _charged_bytes(pid)
    return f"{resident / 1e3:.1f} MB" + (f" (its cgroup: {charged / 1e6:.1f} MB)" if charged else "")


def _charged_bytes(pid: int) -> int:
    """Return what the cgroup holds of memory, page cache too; 0 where it cannot be read."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    own = CGROUPS / "memory" / groups.get("memory", "none").lstrip("/") / "memory.usage_in_bytes"
    unified = CGROUPS / groups.get("", "none").lstrip("/") / "memory.current"
    return next((int(file.read_text()) for file in (own, unified) if file.exists()), 0)


def drain(container: Container, load: Clients, sessions: int) -> Row:
    """The image's stop signal with all sessions open."""
    code, took_s = container.stop()
    closed = load.step()["closed"]
    told = ", ".join(f"{count:,} closed with {closing}" for closing, count in closed.items())
    well = closed == {"1012": sessions} and code == 0 and took_s < STOP_S
    return Row("SIGTERM with all of them open", f"{told}; exit code {code} after {took_s:.1f} s", well)


def crowd(container: Container, sessions: int) -> list[Row]:
    """One client's words, then many sessions, then the stop."""
    rows = [Row("memory, idle", memory(container.pid))]
    with clients(container, sessions) as load:
        found = load.step()["found"]
        rows.append(Row("a session that speaks early and at length, a request", str(found), found == FOUND))
        opened = load.step()["open"]
        rows.append(Row(f"memory, {opened:,} open sessions", memory(container.pid)))
        rows.append(drain(container, load, sessions))
    said = [
        line for line in container.log().splitlines() if '"severity": "ERROR"' in line or "Traceback" in line
    ]
    return [*rows, Row("errors in its log", str(len(said)), not said)]
