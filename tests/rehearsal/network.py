"""Where the pairs stand: each in a network namespace of its own, as containers are, or on loopback.

The run starts itself anew inside namespaces that only it can see: of the network, so that no address of the
machine is touched; of mounts, so that the names of namespaces are its own; of processes, so that nothing
outlives it. All of that is gone when its last process is, however it ended.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass

from tests.backends import launch

PUBLIC_PORT, APP_PORT, ADMIN_PORT = 18080, 18000, 19901
# A private /run, because `ip netns` keeps its names there.
BEFORE = "mount -t tmpfs tmpfs /run && ip link set lo up"
TRIAL = f"{BEFORE} && ip netns add trial && ip link add trial type veth peer name eth0 netns trial"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one pair runs. `inside`: what a command begins with to run there.

    `public`: the gate's address for the front end; `local`: what gate and application share.
    """

    name: str
    public: str
    local: str
    inside: tuple[str, ...] = ()


def isolation() -> list[str]:
    """Return the beginning of a command that runs in namespaces of its own.

    MissingToolError, with what was answered, where they cannot be made.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    launch.installed("ip")
    launch.installed("nsenter")
    # ends with us, whatever ends us; what it started ends with it
    mortal = [launch.installed("setpriv"), "--pdeathsig", "KILL"]
    command = [*mortal, launch.installed("unshare"), *user, *spaces]
    trial = subprocess.run([*command, "sh", "-c", TRIAL], capture_output=True, text=True, check=False)
    if trial.returncode:
        answer = " ".join(trial.stderr.split()) or f"exit code {trial.returncode}"
        raise launch.MissingToolError(f"no network namespaces here ({answer})")
    return command


def started_anew(command: list[str]) -> int:
    """Run `command` in such namespaces and return its exit code. MissingToolError without them."""
    script = f"{BEFORE} && exec {shlex.join(command)}"
    return subprocess.run([*isolation(), "sh", "-c", script], check=False).returncode


def namespace(number: int) -> Place:
    """Make a namespace that is joined to ours by a cable of its own; call inside `started_anew`."""
    name, ours, theirs = f"pair{number}", f"10.77.{number}.1", f"10.77.{number}.2"
    for line in (
        f"netns add {name}",
        f"link add {name} type veth peer name eth0 netns {name}",
        f"addr add {ours}/30 dev {name}",
        f"link set {name} up",
        f"-n {name} addr add {theirs}/30 dev eth0",
        f"-n {name} link set eth0 up",
        f"-n {name} link set lo up",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    return Place(name, theirs, "127.0.0.1", ("nsenter", f"--net=/run/netns/{name}", "--"))


def loopback(number: int) -> Place:
    """Return an address of loopback of its own, which Linux has without asking."""
    address = f"127.0.0.{10 + number}"
    return Place(f"pair{number}", address, address)
