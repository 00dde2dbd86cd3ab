"""The programs that build and run images: one way to call them, with a bound, and what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

PACKAGES = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
}
# podman asks systemd for health timers, and goes on where there is none.
NOISE = ("systemd connection",)


class FailedError(Exception):
    """A program failed or took too long; the text says which, and the end of what it said."""


def missing() -> str:
    """Return what this machine lacks for `make image-test`, and how to get it; empty when all is there."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    lacking = [package for program, package in PACKAGES.items() if not shutil.which(program, path=path)]
    if lacking:
        told = f"not installed: {', '.join(lacking)}. On Debian: apt-get install {' '.join(lacking)}"
        return f"{told} (make image-test-setup)"
    return (
        ""
        if os.geteuid() == 0
        else "mmdebstrap, network namespaces and cgroups want root here: run it as root"
    )


def run(words: Sequence[str], *, bound_s: float = 60.0, may_fail: bool = False, **options) -> str:
    """Run a program to its end; return what it printed. FailedError when it fails, unless it may."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=bound_s,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
    except subprocess.TimeoutExpired as late:
        raise FailedError(
            f"{' '.join(words[:3])}: not done within {bound_s:g} s\n{tail(late.stdout)}"
        ) from None
    if done.returncode and not may_fail:
        raise FailedError(
            f"{' '.join(words)}: exit {done.returncode}\n{tail(done.stdout + clean(done.stderr))}"
        )
    return done.stdout.strip()


def podman(*words: str, **options) -> str:
    """Run podman; return what it printed on stdout."""
    return run(["podman", *words], **options)


def exists(image: str) -> bool:
    """Whether an image is in the storage of this machine."""
    return not subprocess.run(["podman", "image", "exists", image], check=False, timeout=30).returncode


def clean(text: str) -> str:
    """Return what was said, without what is said wherever there is no systemd."""
    return "\n".join(line for line in text.splitlines() if not any(noise in line for noise in NOISE))


def tail(text: str | bytes | None) -> str:
    """Return the last lines."""
    said = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
    return "\n".join(said.strip().splitlines()[-30:])
