"""What is fuzzed: a name, a check that raises for a finding, seeds; and how an input is kept in a file."""

from __future__ import annotations

import hashlib
import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds"
RESULTS = Path("fuzz-results")
NAMES = (
    "walker",
    "announcement",
    "handshake",
    "events",
    "upgrade",
    "response",
    "policy",
    "headers",
    "trace",
)


def lines(data: bytes) -> list[bytes]:
    """Cut an input into its lines, which mutation then moves as a whole."""
    return data.splitlines(keepends=True)


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that takes any input. `check` raises whatever it likes when a promise is broken.

    `tokens`: bytes that mean something to it. `pieces`: cuts an input where its parts end. `share`: of the
    time, beside the others' shares. `sweep`: hypothesis's own search, for a target whose inputs are steps: it
    takes seconds and a seed, and returns the inputs tried and the shortest one that breaks a promise.
    `end`: ends what the checks have started. `few`: so many inputs are tried in `make test`.
    """

    name: str
    check: Callable[[bytes], None]
    tokens: tuple[bytes, ...] = ()
    pieces: Callable[[bytes], list[bytes]] = lines
    share: float = 1.0
    longest: int = 4096
    few: int = 300
    sweep: Callable[[float, int], tuple[int, bytes | None]] | None = None
    end: Callable[[], None] = nothing


def target(name: str) -> Target:
    """Return the target with this name."""
    found: Target = importlib.import_module(f"tests.fuzz.{name}").TARGET
    return found


def seed_files(name: str) -> list[Path]:
    """Return the files in which inputs of this target are kept."""
    return sorted(file for file in (SEEDS / name).iterdir() if file.suffix != ".md")


def read(file: Path) -> bytes:
    """Return the input that a file holds: of a `.hex` the digits without comments, otherwise its bytes."""
    if file.suffix != ".hex":
        return file.read_bytes()
    return bytes.fromhex("".join(line.partition("#")[0] for line in file.read_text().splitlines()))


def save(name: str, data: bytes, why: BaseException) -> Path:
    """Keep an input that breaks a promise, and beside it what it breaks; return its file."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(data).hexdigest()[:12]}.bin"
    file.write_bytes(data)
    file.with_suffix(".txt").write_text("".join(traceback.format_exception(why)))
    return file
