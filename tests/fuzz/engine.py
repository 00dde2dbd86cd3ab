"""Tries one target for a while, in a process of its own: seeds first, then whatever comes of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from tests.fuzz import target as targets
from tests.fuzz.mutation import mutated, shortest, step
from tests.fuzz.target import RESULTS, Target

HANG_S = 20.0  # no input takes nearly as long
_SHORTEN_S = (3.0, 15.0)  # at least, at most; in between what is left of the target's time


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a target: `finding` is the file with the input that broke a promise, if one did."""

    name: str
    engine: str
    inputs: int
    seconds: float
    finding: str | None = None
    why: str = ""


class HungError(BaseException):
    """An input that was not over in time. Nothing that is tried may take it for an error of its own."""


def engine_of(target: Target) -> str:
    """Return what makes the inputs of a target: `hypothesis`, `atheris`, or `chance` where that is missing.

    atheris has wheels for some Pythons and machines only.
    """
    return "hypothesis" if target.sweep else "atheris" if find_spec("atheris") else "chance"


def fuzz(name: str, engine: str, seconds: float, seed: int) -> Outcome:
    """Try a target. With atheris this does not return: the process ends with the outcome printed."""
    begun = time.monotonic()
    inputs = [targets.read(file) for file in targets.seed_files(name)]
    if engine == "atheris":
        _guided(name, inputs, seconds, seed)
    target = targets.target(name)
    for index, data in enumerate(inputs):
        if broken(target, data) is not None:
            return _outcome(target, engine, index + 1, (begun, seconds), data)
    sweep = target.sweep or partial(by_chance, target, inputs)
    tried, failing = sweep(seconds, seed)
    return _outcome(target, engine, len(inputs) + tried, (begun, seconds), failing)


def by_chance(
    target: Target, inputs: list[bytes], seconds: float, seed: int, most: int = sys.maxsize
) -> tuple[int, bytes | None]:
    """Try mutated inputs for so long, one at least and `most` at most.

    Return how many, and the one that broke a promise.
    """
    tried, until, chance = 0, time.monotonic() + seconds, random.Random(seed)
    while tried < most and (not tried or time.monotonic() < until):
        data = mutated(target, inputs, chance)
        tried += 1
        if broken(target, data) is not None:
            return tried, data
    return tried, None


def broken(target: Target, data: bytes) -> BaseException | None:
    """Return what an input breaks, None if nothing."""
    try:
        with bounded():
            target.check(data)
    except (Exception, HungError) as why:
        return why
    return None


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise HungError in what takes too long. In the main thread only."""
    old = signal.signal(signal.SIGALRM, _hung)
    before = signal.setitimer(signal.ITIMER_REAL, HANG_S)  # pytest's, in a test
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        signal.setitimer(signal.ITIMER_REAL, *before)


def _hung(_number: int, _frame: FrameType | None) -> None:
    raise HungError(f"not over in {HANG_S:.0f} s")


def _outcome(
    target: Target, engine: str, tried: int, time_of: tuple[float, float], failing: bytes | None
) -> Outcome:
    """Count, and keep what failed: as short as can be, if it fails again. `time_of` it: begin and length."""
    begun, whole = time_of
    seconds = time.monotonic() - begun
    if failing is None:
        target.end()
        return Outcome(target.name, engine, tried, seconds)
    why = broken(target, failing)
    if why is not None and not isinstance(why, HungError) and target.sweep is None:
        kind = type(why)
        shorten_s = sorted((*_SHORTEN_S, whole - seconds))[1]
        failing = shortest(failing, lambda data: type(broken(target, data)) is kind, shorten_s)
        why = broken(target, failing) or why
    file = targets.save(target.name, failing, why or RuntimeError("it did not fail a second time"))
    target.end()
    return Outcome(target.name, engine, tried, seconds, str(file), f"{type(why).__name__}: {why}"[:500])


def _guided(name: str, inputs: list[bytes], seconds: float, seed: int) -> None:
    """Let atheris try what reaches new code. What it finds worth keeping stays in fuzz-results/corpus."""
    import atheris  # noqa: PLC0415 - it is not there for everybody

    with atheris.instrument_imports(include=["proxy"], enable_loader_override=False):
        target = targets.target(name)
    corpus, begun, tried = _corpus(name, inputs), time.monotonic(), 0

    def once(data: bytes) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            # libFuzzer's own clock would end the process. Ours is enough.
            signal.setitimer(signal.ITIMER_REAL, 0)
        failing = data if broken(target, data) is not None else None
        if failing is not None or time.monotonic() >= begun + seconds:
            finish(_outcome(target, "atheris", tried, (begun, seconds), failing))

    def changed(data: bytes, longest: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, longest))
        return step(target, data, chance.choice(inputs), chance)[:longest]

    options = [f"-max_len={target.longest}", f"-seed={seed}", "-timeout=0", "-verbosity=0", "-rss_limit_mb=0"]
    atheris.Setup(["fuzz", *options, str(corpus)], once, custom_mutator=changed)
    atheris.Fuzz()


def _corpus(name: str, inputs: list[bytes]) -> Path:
    folder = RESULTS / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (folder / f"seed-{number}").write_bytes(data)
    return folder


def finish(outcome: Outcome) -> None:
    """Print the outcome as one line of JSON and end the process, whoever runs it."""
    print(json.dumps(asdict(outcome)), flush=True)
    os._exit(0)
