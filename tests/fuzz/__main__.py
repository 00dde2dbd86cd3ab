"""`python -m tests.fuzz`: any input for whatever reads what peers send; stops by itself within five minutes.

Exits 1 when a promise is broken; the input is in fuzz-results/TARGET/, as short as it could be made.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import engine, target
from tests.fuzz.engine import Outcome

DEFAULT_S = 240.0  # starting, shortening and ending included, it stays below five minutes
_GRACE_S = engine.HANG_S + 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_S, help="of all targets (default %(default)s)"
    )
    parser.add_argument("--only", action="append", choices=target.NAMES, help="may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="default: a new one")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="check one input, kept in .../TARGET/FILE"
    )
    parser.add_argument(
        "--engine", choices=("atheris", "chance", "hypothesis"), help="what makes bytes (default: the better)"
    )
    parser.add_argument("--child", choices=target.NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 10**6)
    if options.replay:
        return replay(options.replay)
    if options.child:
        engine.finish(engine.fuzz(options.child, options.engine, options.seconds, seed))
    return run(options.only or list(target.NAMES), options.engine, options.seconds, seed)


def replay(file: Path) -> int:
    """Check the input of one file against the target that its folder is named after."""
    name = file.resolve().parent.name
    if name not in target.NAMES:
        print(f"{file}: the folder of an input is named after its target: {', '.join(target.NAMES)}")
        return 2
    if not file.is_file():
        print(f"{file}: no such file")
        return 2
    subject = target.target(name)
    try:
        with engine.bounded():
            subject.check(target.read(file))
    finally:
        subject.end()
    print(f"{file}: {name} keeps its promises")
    return 0


def run(names: list[str], wanted: str | None, seconds: float, seed: int) -> int:
    """Try these targets one after the other; print what came of each."""
    print(f"fuzz: {seconds:.0f} s, seed {seed}", flush=True)
    print(f"{'target':<14}{'engine':<12}{'inputs tried':>13}{'a second':>10}{'findings':>10}", flush=True)
    subjects = [target.target(name) for name in names]
    whole = sum(subject.share for subject in subjects)
    begun, outcomes = time.monotonic(), []
    for subject in subjects:
        how = engine.engine_of(subject)
        how = wanted if wanted and how != "hypothesis" else how
        outcomes.append(child(subject.name, how, seconds * subject.share / whole, seed))
        print(row(outcomes[-1]), flush=True)
    inputs, found = sum(each.inputs for each in outcomes), [each for each in outcomes if each.why]
    print(f"{inputs:,} inputs tried in {time.monotonic() - begun:.0f} s, {len(found)} findings")
    for each in found:
        print(f"\n{each.name}: {each.why}")
        if each.finding:
            print(f"  again: python -m tests.fuzz --replay {each.finding}")
    return int(bool(found))


def row(outcome: Outcome) -> str:
    """Return the figures of a target as a line."""
    rate = outcome.inputs / max(outcome.seconds, 0.001)
    figures = f"{outcome.inputs:>13,}{rate:>10,.0f}{int(bool(outcome.why)):>10}"
    return f"{outcome.name:<14}{outcome.engine:<12}{figures}"


def child(name: str, how: str, seconds: float, seed: int) -> Outcome:
    """Try a target in a process of its own, and take a process that dies or hangs for a finding."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--child",
        name,
        "--engine",
        how,
        f"--seconds={seconds}",
        f"--seed={seed}",
    ]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False
        )
        told = done.stdout.splitlines()
        if done.returncode == 0 and told:
            return Outcome(**json.loads(told[-1]))
        why = f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
    except subprocess.TimeoutExpired:
        why = f"the process was not over {_GRACE_S:.0f} s after its time"
    return Outcome(name, how, 0, time.monotonic() - begun, why=why)


if __name__ == "__main__":
    sys.exit(main())
