"""From pydantic's errors to problems with file, line, key, what was found and what was expected."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from proxy.policy import keys
from proxy.policy.model import FIXED, PROVED, Document
from proxy.policy.problems import Problem, either, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from proxy.policy.tree import Node


def validate(tree: Node) -> tuple[Document | None, list[Problem]]:
    """Check types, names and ranges of a whole tree; return the document, or else every problem."""
    try:
        return Document.model_validate(tree.plain()), []
    except ValidationError as error:
        return None, [_problem(tree, each) for each in error.errors(include_url=False, include_input=False)]


def _problem(tree: Node, error: ErrorDetails) -> Problem:
    place = _Place(tree, error["loc"])
    if error["type"] == "extra_forbidden":
        found = "a key that this evidence does not have" if place.known else "an unknown key"
        return place.problem(found, _did_you_mean(str(error["loc"][-1]), place.siblings))
    if error["type"] == "missing":
        return place.problem("nothing", place.expected)
    expected = str(error["ctx"]["error"]) if error["type"] == "value_error" else place.expected
    return place.problem(show(place.node.plain()), expected)


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return either(known) + (f" (did you mean {close[0]}?)" if close else "")


class _Place:
    """Where an error's `loc` leads in the tree and in the table of keys."""

    def __init__(self, tree: Node, loc: Sequence[int | str]) -> None:
        self.node = tree
        self.siblings: list[str] = []
        self._path = ""
        self._key: keys.Key | None = keys.document()
        self._tag: str | None = None
        for part in loc:
            self._step(part)

    def _step(self, part: int | str) -> None:
        if part in {FIXED, PROVED}:  # pydantic names the kind of stage that it judged by, the file does not
            self._tag = str(part)
        elif isinstance(part, int):
            self.node = self.node.items()[part]
            self._path += f"[{part}]"
            self._key = self._key and self._key.item
        else:
            self.siblings = self._key.names(self._tag) if self._key else []
            self.node = self.node.entries().get(part, self.node)
            self._path += f".{part}" if self._path else part
            self._key = self._key and self._key.inner.get(part)
            self._tag = None

    @property
    def known(self) -> bool:
        return self._key is not None

    @property
    def expected(self) -> str:
        return self._key.expected if self._key else "a known key"

    def problem(self, found: str, expected: str) -> Problem:
        return Problem(self.node.file, self.node.line, self._path, found, expected)
