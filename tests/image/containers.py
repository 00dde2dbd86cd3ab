"""The sidecar pattern: an application, and a gate in its network namespace that may do little else."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.image.building import APP, IMAGE
from tests.image.engine import FailedError, podman

UPSTREAM = "http://127.0.0.1:8000"
# podman's own limits of descriptors and processes are above those of many machines, and cannot be set there.
RUNTIME = ("--runtime", "runc", "--health-interval", "disable", "--ulimit", "nproc=1024:1024")
LOCKED = (
    *("--read-only", "--read-only-tmpfs=false"),
    *("--cap-drop", "all"),
    *("--security-opt", "no-new-privileges"),
    *("--ulimit", "nofile=1024:20000"),
)
LIMITS = (("--memory", "256m"), ("--cpus", "1"))
STEP_S = 0.001
START_S = 30.0
STOP_S = 10


@dataclass(slots=True)
class Container:
    """A container that was made and is removed again; it runs from `start()` on."""

    name: str

    @classmethod
    @contextlib.contextmanager
    def made(cls, role: str, *words: str) -> Iterator[Self]:
        """Create it; its process exists afterwards, and waits for `start()`."""
        name = f"readygate-image-test-{os.getpid()}-{role}"
        try:
            podman("create", "--name", name, *RUNTIME, *words)
            podman("init", name)
            yield cls(name)
        finally:
            podman("rm", "--force", "--time", "0", "--ignore", name, may_fail=True)

    def start(self) -> None:
        podman("start", self.name)

    @property
    def pid(self) -> int:
        return int(self.told("{{.State.Pid}}"))

    def told(self, template: str) -> str:
        """Return what podman knows of it."""
        return podman("inspect", self.name, "--format", template)

    def log(self) -> str:
        """Return all that it printed."""
        words = ["podman", "logs", self.name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=START_S, check=True)
        return done.stdout + done.stderr

    def within(self, *words: str) -> tuple[int, str]:
        """Run a program inside of it; return its exit code and all that it printed."""
        command = ["podman", "exec", self.name, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def wait_for_log(self, word: str) -> None:
        """Wait until it has printed a word. FailedError with its log otherwise."""
        until = time.monotonic() + START_S
        while word not in self.log():
            if time.monotonic() > until or self.told("{{.State.Running}}") != "true":
                raise FailedError(f"{self.name} never said {word!r}:\n{self.log()[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> tuple[int, float]:
        """Send the image's stop signal, SIGKILL after 10 s; return its exit code and the seconds it took."""
        began = time.monotonic()
        podman("stop", "--time", str(STOP_S), self.name)
        return self.ended(), time.monotonic() - began

    def ended(self) -> int:
        """Wait until it has ended; return its exit code."""
        return int(podman("wait", self.name))

    def wait_until_it_handles(self, signum: int) -> None:
        """Wait until its process has a handler for a signal."""
        status, until = Path(f"/proc/{self.pid}/status"), time.monotonic() + START_S
        while not int(re.search(r"SigCgt:\s+(\w+)", status.read_text())[1], 16) >> (signum - 1) & 1:
            if time.monotonic() > until:
                raise FailedError(f"{self.name} handles no signal {signum}")
            time.sleep(STEP_S)

    def executed_at(self) -> float:
        """Start it; return when its own program ran instead of the runtime's (seconds since 1970)."""
        program = Path(f"/proc/{self.pid}/exe")
        starting = subprocess.Popen(
            ["podman", "start", self.name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            until = time.monotonic() + START_S
            while "python" not in os.readlink(program):
                if time.monotonic() > until:
                    raise FailedError(f"{self.name} did not start")
                time.sleep(STEP_S)
            return time.time()
        finally:
            starting.communicate(timeout=START_S)


def application() -> contextlib.AbstractContextManager[Container]:
    """The application, in a network namespace that has a loopback interface and nothing else."""
    return Container.made("app", "--network", "none", "--ulimit", "nofile=20000:20000", APP)


def gate(
    namespace: str, limits: list[str], *words: str, options: tuple[str, ...] = ()
) -> contextlib.AbstractContextManager[Container]:
    """A gate in another container's namespace; `words` in place of the image's command."""
    told = ["--env", f"READYGATE_UPSTREAM={UPSTREAM}", "--env", "READYGATE_POLICY=production"]
    return Container.made("gate", "--network", namespace, *LOCKED, *limits, *told, *options, IMAGE, *words)


def limits() -> tuple[list[str], str]:
    """Return those limits that this machine's cgroups let us set, and a word on those that they do not."""
    given: list[str] = []
    refused: list[str] = []
    for words in LIMITS:
        try:
            with gate("none", [*words]):
                given += words
        except FailedError:
            refused.append(" ".join(words))
    word = f"not applied, because this machine refuses it: {', '.join(refused)}" if refused else ""
    return given, word
