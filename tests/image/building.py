"""Builds the image as `make image` does, and the application's; pip's settings go in as secrets."""

from __future__ import annotations

import ast
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.backends.launch import ROOT
from tests.image.bases import Bases
from tests.image.engine import run

IMAGE = "localhost/readygate:image-test"
APP = "localhost/readygate-app:image-test"
BUILD = (
    *("buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host"),
    *("--format", "docker", "--layers", "--quiet"),
)
BOUND_S = 900.0
# What leads pip to an index. Paths of this machine's own do not exist in a build.
PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout")


@contextmanager
def secrets() -> Iterator[list[str]]:
    """Yield the words that lend a build this machine's pip settings; they are in no layer of the image."""
    told = run([sys.executable, "-m", "pip", "config", "list"])
    found = {
        name.rpartition(".")[2]: ast.literal_eval(value)
        for name, _, value in (line.partition("=") for line in told.splitlines())
    }
    lines = ["[global]"]
    for name in PASSED_ON:
        urls = [word for word in found.get(name, "").split() if not word.startswith("file:")]
        lines += [f"{name} = {' '.join(urls)}"] if urls else []
    words = []
    if authority := found.get("cert"):
        lines.append("cert = /run/secrets/ca")
        words += ["--secret", f"id=ca,src={authority}"]
    with tempfile.NamedTemporaryFile("w", prefix="readygate-pip-", suffix=".conf") as conf:
        conf.write("\n".join([*lines, ""]))
        conf.flush()
        yield [*words, "--secret", f"id=pip,src={conf.name}"]


def image(bases: Bases) -> None:
    """Build the image under test."""
    with secrets() as lent:
        chosen = ["--build-arg", f"BUILD_BASE={bases.build}", "--build-arg", f"BASE={bases.final}"]
        command = " ".join([*BUILD, *lent, *chosen])
        run(
            ["make", "--no-print-directory", "image", f"BUILD={command}", f"IMAGE={IMAGE}"],
            bound_s=BOUND_S,
            cwd=ROOT,
        )


def application(bases: Bases) -> None:
    """Build the image of the application that the gate stands before."""
    with secrets() as lent, tempfile.TemporaryDirectory(prefix="readygate-app-") as context:
        for file in ("constraints.txt", "tests/backends/chat.py"):
            shutil.copy(ROOT / file, context)
        dockerfile = str(Path(__file__).with_name("app.Dockerfile"))
        chosen = ["--build-arg", f"BASE={bases.build}", "--tag", APP, "--file", dockerfile]
        run([*BUILD, *lent, *chosen, context], bound_s=BOUND_S)
