"""A measurement for people (a table) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from proxy.probe.cases import Expect
from proxy.probe.table import render, tally

if TYPE_CHECKING:
    from proxy.probe.measure import CaseResult, Measurement, Spread

_COUNTS: Final = ("tried", "opened", "answered", "lost")
_TIMES: Final = ("open ms p50/p99", "answer ms p50/p99")
_HEADS: Final = ("case", *_COUNTS, "not opened", "closed", *_TIMES)
_NUMBERS: Final = frozenset({*_COUNTS, *_TIMES})
_LEGEND: Final = """\
open: from the connect to the 101. answer: from our message to its answer. lost: opened, spoken, unanswered.
closed: 1000 answers our own Close, 1006 is a loss without Close, "open" did not answer our Close in time."""
_ANSWER: Final = {
    Expect.ANY: "any message beyond those sent unasked",
    Expect.ECHO: "a message equal to ours",
    Expect.NONE: "none is awaited",
}


def as_text(found: Measurement) -> str:
    """Lay the measurement out as a table with a line on what was measured, and notes."""
    effort = found.effort
    title = (
        f"{found.target.url}: {effort.connections} connections a case, at most {effort.at_once} at once; "
        f"an answer is {_ANSWER[found.manner.expect]}"
    )
    notes = [f"note: {note}" for note in found.notes]
    table = render(_HEADS, [_row(result) for result in found.results], numbers=_NUMBERS)
    return "\n".join([title, "", table, "", _LEGEND, *notes])


def as_json(found: Measurement) -> str:
    """Write the measurement as one JSON object; times in ms, counts by status, cause and Close code."""
    cases = []
    for result in found.results:
        fields = asdict(result)
        fields["case"] = result.case.name
        cases.append(fields)
    return json.dumps(
        {
            "url": found.target.url,
            "connections": found.effort.connections,
            "at_once": found.effort.at_once,
            "expect": found.manner.expect,
            "unasked": found.manner.unasked,
            "complete": found.complete,
            "cases": cases,
            "notes": found.notes,
        },
        indent=2,
    )


def _row(result: CaseResult) -> list[str]:
    not_opened = {f"HTTP {status}": count for status, count in result.refused.items()} | result.failed
    return [
        result.case.title,
        str(result.tried),
        str(result.opened),
        _or_dash(result.answered),
        _or_dash(result.lost),
        tally(not_opened),
        tally(result.closed),
        _spread(result.open_ms),
        _spread(result.answer_ms),
    ]


def _or_dash(count: int | None) -> str:
    return "-" if count is None else str(count)


def _spread(spread: Spread) -> str:
    return "-" if spread.p50 is None else f"{spread.p50:.1f} / {spread.p99:.1f}"
