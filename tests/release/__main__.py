"""`python -m tests.release`, or `make release-check`: would what is in the repository make a good release?

Builds the source archive from the tracked files alone, the wheel from that archive, looks at what is in them,
installs the wheel into a new environment and uses it there, far from the source. Exits 1 when something is
wrong, and says what. Takes a minute or two; each step is bounded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from proxy import __version__
from tests.release.contents import changelog_problems, sdist_problems, wheel_problems

ROOT = Path(__file__).resolve().parents[2]
STEP_S = 300
PRESETS = sorted(file.stem for file in (ROOT / "policies").glob("*.yaml"))


class StepError(Exception):
    """A command of ours failed; the text is its output."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="readygate-release-") as name:
        room = Path(name)
        try:
            problems = check(room)
        except StepError as error:
            print(error, file=sys.stderr)
            return 1
    for problem in problems:
        print(f"release-check: {problem}", file=sys.stderr)
    print(
        "release-check: " + (f"{len(problems)} problems" if problems else f"readygate {__version__} is good")
    )
    return 1 if problems else 0


def check(room: Path) -> list[str]:
    """Do all of it in an empty folder; return what is wrong."""
    tracked = tracked_files()
    problems = changelog_problems((ROOT / "CHANGELOG.md").read_text(), __version__)
    sdist, wheel = build(copy_of(tracked, room / "source"), room)
    told(f"built {sdist.name} ({size(sdist)}) and, from it, {wheel.name} ({size(wheel)})")
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    problems += sdist_problems(names, tracked)
    with zipfile.ZipFile(wheel) as archive:
        problems += wheel_problems(archive.namelist(), tracked)
    told(
        f"{len(names)} files in the sdist"
        + ("" if problems else ", and the wheel has all it must, and no more")
    )
    return problems or used(wheel, room)


def tracked_files() -> list[str]:
    """The files that git knows, as they are in the work tree."""
    listed = run(["git", "ls-files", "-z"], ROOT).split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def copy_of(tracked: list[str], to: Path) -> Path:
    for name in tracked:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


def build(source: Path, room: Path) -> tuple[Path, Path]:
    """The source archive of the copy, and the wheel of what that archive unpacks to."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(room / "dist")], source)
    (sdist,) = (room / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(room / "unpacked", filter="data")
    (unpacked,) = (room / "unpacked").iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(room / "dist")], unpacked)
    (wheel,) = (room / "dist").glob("*.whl")
    return sdist, wheel


def used(wheel: Path, room: Path) -> list[str]:
    """Install the wheel as users do, first without, then with what the demo wants, and use it."""
    problems = []
    python = room / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["-c", str(ROOT / "constraints.txt")]
    run([sys.executable, "-m", "venv", str(room / "venv")], room)
    run([*pip, *pinned, str(wheel)], room)
    run([str(python), "-m", "pip", "check", "--disable-pip-version-check"], room)
    gate = str(room / "venv" / "bin" / "readygate")
    version = run([gate, "--version"], room).strip()
    told(version)
    if version != f"readygate {__version__}" or f"-{__version__}-" not in wheel.name:
        problems.append(f"{wheel.name} says {version!r}, proxy/__init__.py {__version__!r}")
    for preset in PRESETS:
        if not run([gate, "check", preset], room).startswith(f"# effective policy: {preset}\n"):
            problems.append(f"readygate check {preset} does not print it")
    told(f"readygate check: {', '.join(PRESETS)}")
    run([*pip, *pinned, f"{wheel}[demo]"], room)
    table = run([gate, "demo"], room, ONCE="1")
    print(table)
    return problems + demo_problems(table)


def demo_problems(table: str) -> list[str]:
    """See in the last column of the demo's table that what went through the gate came to no harm."""
    served = re.findall(r"^(\S.*?) {2,}.* {2,}(\d+) of (\d+) served[^\n]*$", table, re.MULTILINE)
    problems = [f"demo: {fault}: {some} of {all_} served" for fault, some, all_ in served if some != all_]
    logged = re.findall(r"^(\S.*?) {2,}.* {2,}(\d+) errors [^\n]*$", table, re.MULTILINE)
    problems += [f"demo: {fault}: {count} errors" for fault, count in logged if count != "0"]
    return problems if served else ["the demo printed no table"]


def run(command: list[str], where: Path, **more: str) -> str:
    """Run a command to its end, away from our own source; return what it printed. Raise StepError."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "READYGATE_"))
    }
    try:
        done = subprocess.run(
            command,
            cwd=where,
            env=environ | more,
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(f"release-check: {' '.join(command)}: {error}") from None
    if done.returncode:
        raise StepError(
            f"release-check: {' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def told(text: str) -> None:
    print(f"release-check: {text}", flush=True)


def size(file: Path) -> str:
    return f"{file.stat().st_size / 1024:,.0f} KiB"


if __name__ == "__main__":
    sys.exit(main())
