"""Run all cases against one endpoint, never with more connections open than asked for."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from proxy.probe.cases import CASES, QUIET, Expect
from proxy.probe.client import Manner, converse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.probe.cases import Case
    from proxy.probe.client import Observation
    from proxy.probe.target import Target

_CALIBRATION_TRIES: Final = 3
_QUIET_S: Final = 0.5


class UnreachableError(Exception):
    """No connection could be made at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried: `connections` a case, `at_once` open at most, all within `limit_s`."""

    connections: int = 100
    at_once: int = 10
    limit_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Spread:
    """A time's median and 99th percentile (nearest rank), in ms; None without any sample."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread:
        """Take the percentiles of `samples`."""
        ranked = sorted(samples)
        if not ranked:
            return cls(None, None)
        last = len(ranked) - 1
        # nearest rank: the smallest sample that at least p percent of all do not exceed
        return cls(*(round(ranked[min(last, -(-len(ranked) * p // 100) - 1)], 3) for p in (50, 99)))


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a case's connections saw.

    `tried` = `opened` + all of `refused` (by HTTP status) + all of `failed` (by cause). `answered` and `lost`
    are None where no answer can be told from none, otherwise `opened` = `answered` + `lost`. `closed` counts
    the opened ones by Close code; "open": still open when we left.
    """

    case: Case
    tried: int
    opened: int
    answered: int | None
    lost: int | None
    closed: dict[str, int]
    refused: dict[str, int]
    failed: dict[str, int]
    open_ms: Spread
    answer_ms: Spread


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that a probe found. `unasked`: messages that a quiet connection got within half a second."""

    target: Target
    effort: Effort
    manner: Manner
    results: tuple[CaseResult, ...]
    complete: bool
    notes: tuple[str, ...]


def summarise(case: Case, seen: list[Observation], expect: Expect) -> CaseResult:
    """Count what `seen` holds for `case`."""
    opened = [one for one in seen if one.open_ms is not None]
    answers = [one.answer_ms for one in opened if one.answer_ms is not None]
    tells = expect is not Expect.NONE
    return CaseResult(
        case=case,
        tried=len(seen),
        opened=len(opened),
        answered=len(answers) if tells else None,
        lost=len(opened) - len(answers) if tells and not case.leaves else None,
        closed=_counts("open" if one.close_code is None else str(one.close_code) for one in opened),
        refused=_counts(str(one.status) for one in seen if one.status is not None),
        failed=_counts(one.failure for one in seen if one.failure is not None),
        open_ms=Spread.of(one.open_ms for one in opened if one.open_ms is not None),
        answer_ms=Spread.of(answers),
    )


async def measure(target: Target, manner: Manner, effort: Effort) -> Measurement:
    """Calibrate, then run every case; raises UnreachableError when no connection can be made."""
    context = tls_context(target)
    deadline = asyncio.get_running_loop().time() + effort.limit_s
    quiet = await _calibrate(target, manner, context)
    manner = replace(manner, unasked=quiet.messages)
    results = []
    complete = True
    for case in CASES:
        _progress(f"{case.title} ...")
        seen, whole = await run_case(target, case, manner, effort, context, deadline)
        results.append(summarise(case, seen, manner.expect))
        complete = complete and whole
    _progress("")
    notes = _notes(quiet, manner, results, effort if not complete else None)
    return Measurement(target, effort, manner, tuple(results), complete, tuple(notes))


async def run_case(
    target: Target,
    case: Case,
    manner: Manner,
    effort: Effort,
    context: ssl.SSLContext | None,
    deadline: float,
) -> tuple[list[Observation], bool]:
    """Make the connections of one case; return what they saw, and whether none was cut by `deadline`."""
    seen: list[Observation] = []
    left = iter(range(effort.connections))

    async def one() -> None:
        seen.append(await converse(target, case, manner, context))

    async def worker() -> None:
        for _ in left:
            await one()

    try:
        async with asyncio.timeout_at(deadline):
            if case.together:
                for done in range(0, effort.connections, effort.at_once):
                    async with asyncio.TaskGroup() as wave:
                        for _ in range(min(effort.at_once, effort.connections - done)):
                            wave.create_task(one())
            else:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(effort.at_once, effort.connections)):
                        workers.create_task(worker())
    except TimeoutError:
        return seen, False
    return seen, True


def tls_context(target: Target) -> ssl.SSLContext | None:
    """Return what a `wss://` target needs; `verify` off takes any certificate."""
    if not target.tls:
        return None
    context = ssl.create_default_context()
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _calibrate(target: Target, manner: Manner, context: ssl.SSLContext | None) -> Observation:
    """Listen to a quiet connection; the first of a few that opens."""
    quiet = replace(manner, answer_timeout_s=_QUIET_S)
    for _ in range(_CALIBRATION_TRIES):
        seen = await converse(target, QUIET, quiet, context)
        if not seen.reached:
            raise UnreachableError(seen.failure)
        if seen.open_ms is not None:
            break
    return seen


def _notes(
    quiet: Observation, manner: Manner, results: list[CaseResult], cut: Effort | None
) -> Iterable[str]:
    if cut is not None:
        yield f"stopped after {cut.limit_s:g} s: connections that were not done are not counted"
    if quiet.open_ms is None:
        yield "no quiet connection opened: messages sent unasked would count as answers"
    elif quiet.messages:
        yield (
            f"sends {quiet.messages} message(s) unasked within {_QUIET_S:g} s; "
            + ("they do not count as answers" if manner.expect is Expect.ANY else "only an echo is an answer")
        )
    if any(result.opened for result in results) and not any(result.answered for result in results):
        if manner.expect is Expect.NONE:
            yield "no answers were expected: whether a message arrived is not known"
        else:
            yield (
                "nothing was answered in any case: this endpoint may not answer such a message at all; "
                "try --message with one that it answers, or --expect none"
            )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
