"""What must be true of the image, and of a gate that runs from it."""

from __future__ import annotations

import errno
import json
import re
import signal
from pathlib import Path

from proxy import __version__
from tests.backends.launch import ROOT
from tests.image.building import IMAGE
from tests.image.containers import Container, gate
from tests.image.engine import podman, run
from tests.image.row import Row

USER = "65532:65532"
FROM_SOURCE = """
import os, sys, proxy.run
specs = [module.__spec__ for module in sys.modules.values() if getattr(module, "__spec__", None)]
print(sorted(spec.name for spec in specs if spec.cached and not os.path.exists(spec.cached)))
"""
COMPILED = (
    "import proxy.core.frames, proxy.edge.relay as relay; print(proxy.core.frames.__file__, relay.__file__)"
)
WRITE = "open('/opt/readygate/left', 'w')"
NO_PIP = "import importlib.util; print(importlib.util.find_spec('pip'))"


def of_image() -> list[Row]:
    """What the image says of itself."""
    (image,) = json.loads(podman("image", "inspect", IMAGE))
    config, labels = image["Config"], image["Labels"]
    version = labels["org.opencontainers.image.version"]
    revision, created = (labels[f"org.opencontainers.image.{name}"] for name in ("revision", "created"))
    health = image.get("Healthcheck") or {}
    kept = addresses(json.dumps([config, image["History"]]))
    forms = [config["Entrypoint"], config["Cmd"], health.get("Test")]
    return [
        Row("version in its label", version, version == __version__),
        Row(
            "revision, created",
            f"{revision}, {created}",
            revision.startswith(_revision()) and bool(created) == bool(_revision()),
        ),
        Row("user, stop signal", f"{config['User']}, {config['StopSignal']}", config["User"] == USER),
        Row(
            "entry point, command, health check, none with a shell",
            " ".join(map(str, forms)),
            forms == [["readygate"], ["run"], ["CMD", "readygate", "health"]],
        ),
        Row("addresses of servers that it kept of its build", kept or "none", not kept),
    ]


def _revision() -> str:
    """Return the commit that is checked out; empty in a source archive."""
    return run(["git", "rev-parse", "HEAD"], cwd=ROOT, may_fail=True)


def addresses(text: str) -> str:
    """Return every address of a server that a text names: an index, with a password perhaps."""
    return " ".join(sorted(set(re.findall(r"https?://[^ \"']+", text))))


def of_gate(container: Container) -> list[Row]:
    """What is true inside of a running gate's container."""
    code, line = container.within("readygate", "health")
    own = podman("healthcheck", "run", container.name, may_fail=True)
    compiled = container.within("python", "-c", COMPILED)[1]
    source = container.within("python", "-c", FROM_SOURCE)[1]
    wrote = container.within("python", "-c", WRITE)[1]
    pip = container.within("python", "-c", NO_PIP)[1]
    return [
        Row("readygate health in it", f"{line} (exit code {code})", code == 0),
        Row("its own health check", own or "healthy", not own),
        Row(
            "hot path", "machine code" if compiled.count(".so") == 2 else compiled, compiled.count(".so") == 2
        ),
        Row("modules of `run` without bytecode", source, source == "[]"),
        Row("pip", "none" if pip == "None" else pip, pip == "None"),
        Row("writing to its root", wrote.splitlines()[-1], f"Errno {errno.EROFS}" in wrote),
        _locked(container.pid),
    ]


def _locked(pid: int) -> Row:
    """What the kernel says of its process."""
    told = dict(re.findall(r"^(\w+):\s+(\S+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    files = re.search(r"^Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    seen = {name: told[name] for name in ("Uid", "CapEff", "NoNewPrivs", "Seccomp")}
    well = seen == {"Uid": "65532", "CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    text = " ".join(f"{name} {value}" for name, value in seen.items())
    return Row(
        "the kernel's word", f"{text}, open files {files[1]} of {files[2]}", well and files[1] == files[2]
    )


def of_stopping_early(limits: list[str]) -> Row:
    """The stop signal before it listens. It is process 1, which no signal ends that it does not handle."""
    with gate("none", limits) as container:
        container.executed_at()
        container.wait_until_it_handles(signal.SIGTERM)
        code, took_s = container.stop()
        served = "listening" in container.log()
    seen = f"exit code {code} after {took_s:.1f} s" + ", having listened" * served
    return Row("SIGTERM while it starts", seen, code == 0)


def of_workers(namespace: str, limits: list[str]) -> list[Row]:
    """Several processes want a place for their sockets: told when there is none, and used when there is."""
    with gate(namespace, limits, "run", "--workers", "2") as bare:
        bare.start()
        code, said = bare.ended(), bare.log().strip().splitlines()
    with gate(namespace, limits, "run", "--workers", "2", options=("--tmpfs", "/tmp:size=1m")) as roomy:
        roomy.start()
        roomy.wait_for_log("readygate listening")
        healthy, _ = roomy.within("readygate", "health")
        ended, _ = roomy.stop()
    return [
        Row("two workers, no /tmp", f"exit code {code}: {' '.join(said)}", code == 3 and len(said) == 1),
        Row(
            "two workers, a tmpfs of 1 MB at /tmp",
            f"health {healthy}, exit code {ended}",
            healthy == ended == 0,
        ),
    ]
