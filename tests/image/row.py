"""A row of the table that `make image-test` ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was looked at, what was seen, and whether that is as it should be (None: a figure, to be read)."""

    what: str
    seen: str
    well: bool | None = None


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    wide = max(len(row.what) for row in rows)
    words = {True: "ok    ", False: "WRONG ", None: "      "}
    return "\n".join(f"{words[row.well]}{row.what:<{wide}}  {row.seen}" for row in rows)


def failed(rows: Sequence[Row]) -> list[Row]:
    """Return what is not as it should be."""
    return [row for row in rows if row.well is False]
