"""The images to build upon: the Dockerfile's own if this machine has them, else Debian made by mmdebstrap."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.backends.launch import ROOT
from tests.image.engine import exists, podman, run

DOCKERFILE = ROOT / "Dockerfile"
DEBIAN = "bookworm"
STAND_IN = f"localhost/readygate-base:{DEBIAN}"
STAND_IN_BUILD = f"localhost/readygate-build-base:{DEBIAN}"
COMPILER = "gcc libc6-dev python3-dev python3-venv"
BOUND_S = 600.0
# Without bytecode, as in the official images, so that the Dockerfile has to make it.
NO_BYTECODE = 'find "$1/usr" -name "*.pyc" -delete'
INSTALL = (
    "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "
    f"{COMPILER} >/dev/null && rm -rf /var/lib/apt/lists/*"
)


@dataclass(frozen=True, slots=True)
class Bases:
    """Names of the images for both stages of the Dockerfile, and what is to be known of them."""

    build: str
    final: str
    told: str


def named() -> dict[str, str]:
    """Return the defaults of the Dockerfile's arguments BUILD_BASE and BASE."""
    return dict(re.findall(r"^ARG (BUILD_BASE|BASE)=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE))


def bases(*, fresh: bool) -> Bases:
    """Return what to build upon. `fresh`: stand-ins that an earlier run left are made again."""
    official = named()
    if all(map(exists, official.values())):
        return Bases(
            official["BUILD_BASE"], official["BASE"], f"base: {official['BASE']}, as in the Dockerfile"
        )
    if fresh or not exists(STAND_IN):
        _debian()
    if fresh or not exists(STAND_IN_BUILD):
        _with_compiler()
    told = (
        f"base: {official['BASE']} is not on this machine (nothing is pulled); in its place Debian {DEBIAN}"
    )
    return Bases(STAND_IN_BUILD, STAND_IN, f"{told} with its own Python, by mmdebstrap")


def _debian() -> None:
    with tempfile.TemporaryDirectory(prefix="readygate-base-") as room:
        tar = str(Path(room) / "base.tar")
        words = [
            "--quiet",
            "--variant=minbase",
            "--include=python3,ca-certificates",
            "--dpkgopt=force-unsafe-io",  # what a crash would lose is made again; half the time
            f"--customize-hook={NO_BYTECODE}",
        ]
        run(["mmdebstrap", *words, DEBIAN, tar], bound_s=BOUND_S)
        podman("import", "--quiet", tar, STAND_IN, bound_s=BOUND_S)


def _with_compiler() -> None:
    container = run(["buildah", "from", "--pull-never", STAND_IN])
    try:
        isolated = ["--isolation", "chroot", "--network", "host"]
        run(["buildah", "run", *isolated, container, "--", "sh", "-c", INSTALL], bound_s=BOUND_S)
        run(
            ["buildah", "commit", "--quiet", "--format", "docker", container, STAND_IN_BUILD], bound_s=BOUND_S
        )
    finally:
        run(["buildah", "rm", container], may_fail=True)
