"""What is wrong with a policy file, said so that it can be mended without reading the code."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHOWN_CHARACTERS = 60
# What is behind a colon and before an @, in whatever is meant to be a URL: rather too much than too little.
_PASSWORD = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?/{0,2}[^/:]*):(?!//).*@", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong value. `line` counts from 1; None when the file as a whole is meant. `key` is dotted."""

    file: str
    line: int | None
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        line = f"{where}: {self.key}: found {self.found}, expected {self.expected}"
        return line if line.isprintable() else "".join(map(_visible, line))


class PolicyError(Exception):
    """A policy that cannot be used. `problems` holds all that is wrong with it; `str` is a line for each."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def _visible(character: str) -> str:
    """Escape what would end the line, or be seen as something else."""
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def show(value: object) -> str:
    """Name a value as its writer would recognise it: `the text "75"`, `true`, `a list of 3`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            value = without_password(value)
            shown = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
            return "the text " + '"' + shown.encode("unicode_escape").decode() + '"'
        case dict():
            return "a mapping"
        case list():
            return f"a list of {len(value)}"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)[:_SHOWN_CHARACTERS]


def without_password(text: str) -> str:
    """Return what may be told of a URL that cannot be used: an error ends up in logs."""
    return _PASSWORD.sub(r"\1:REDACTED@", text)


def either(names: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
