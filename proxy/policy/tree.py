"""YAML as a tree in which every value knows its file and line, and how one tree is laid over another."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeAlias

import yaml

from proxy.policy.problems import Problem, show

Value: TypeAlias = "bool | int | float | str | dict[str, Node] | list[Node] | None"

_MAX_DEPTH = 32
_MAX_NODES = 100_000
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({"map", "seq", "null", "bool", "int", "float", "str", "timestamp", "merge", "value"})
# The words on which YAML 1.1 and 1.2 agree. Anything else that 1.1 would turn into a number or truth value
# (`1:30` = 90, `010` = 8, `on` = true) stays text, so that it is refused or compared as it was written.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; for a mapping's entry, `line` is that of its key.

    The higher the `layer`, the later it was laid on: 0 is the file asked for, -1 what that extends and so on,
    1 a route's overrides.
    """

    value: Value
    file: str
    line: int
    layer: int

    def entries(self) -> dict[str, Node]:
        """Return the entries of a mapping; of anything else, none."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self) -> list[Node]:
        """Return the items of a list; of anything else, none."""
        return self.value if isinstance(self.value, list) else []

    def find(self, path: str) -> Node | None:
        """Return the node at a dotted path, None when there is none."""
        node: Node | None = self
        for key in path.split("."):
            node = node.entries().get(key) if node else None
        return node

    def plain(self) -> object:
        """Return the value without its places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def without(self, *keys: str) -> Node:
        """Return this mapping without some of its keys."""
        return replace(self, value={k: node for k, node in self.entries().items() if k not in keys})

    def lifted(self, layer: int) -> Node:
        """Return the same tree with every node in `layer`."""
        value = self.value
        if isinstance(value, dict):
            value = {key: node.lifted(layer) for key, node in value.items()}
        elif isinstance(value, list):
            value = [node.lifted(layer) for node in value]
        return replace(self, value=value, layer=layer)


def merge(below: Node, above: Node) -> Node:
    """Lay `above` over `below`: mappings merge key by key, everything else is replaced."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(above, value=merged)


def read(text: str, file: str, layer: int) -> tuple[Node | None, list[Problem]]:
    """Read one YAML document whose root is a mapping.

    Return the tree (None when there is nothing to go on with) and what is wrong with it as YAML. An empty
    document is an empty mapping. After a double key or a foreign tag the rest is read on.
    """
    builder = _Builder(file, layer)
    try:
        root = _compose(text, file)
        tree = builder.build(root, "yaml", root.start_mark.line + 1, 0) if root else None
    except _UnusableError as error:
        return None, [error.problem]
    if tree is None or tree.value is None:
        return Node({}, file, 1, layer), builder.problems
    if not isinstance(tree.value, dict):
        wrong = Problem(file, tree.line, "yaml", show(tree.plain()), "a mapping of settings")
        return None, [*builder.problems, wrong]
    return tree, builder.problems


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _UnusableError(_syntax(error, text, file)) from None
    except RecursionError:
        deep = Problem(file, None, "yaml", "deep nesting", f"at most {_MAX_DEPTH} levels")
        raise _UnusableError(deep) from None


def _syntax(error: yaml.YAMLError, text: str, file: str) -> Problem:
    line, detail = None, str(error).splitlines()[0]
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        detail = error.problem or error.context or detail
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        detail = f"the character {int(error.character):#x} is not allowed"
    return Problem(file, line, "yaml", f"a syntax error ({detail})", "valid YAML")


class _UnusableError(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Builder:
    """Turns PyYAML's nodes into ours and notes what YAML allows but a policy does not."""

    def __init__(self, file: str, layer: int) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._layer = layer
        self._left = _MAX_NODES

    def build(self, raw: yaml.Node, path: str, line: int, depth: int) -> Node | None:
        # An alias may name what it stands in, or be multiplied without end: both end here.
        self._left -= 1
        if depth > _MAX_DEPTH:
            raise _UnusableError(self._problem(line, "yaml", "deep nesting", f"at most {_MAX_DEPTH} levels"))
        if self._left < 0:
            raise _UnusableError(
                self._problem(line, "yaml", "too many values", f"at most {_MAX_NODES}, aliases counted out")
            )
        if not raw.tag.startswith(_TAG) or raw.tag.removeprefix(_TAG) not in _PLAIN_TAGS:
            tag = raw.tag.replace(_TAG, "!!")
            self.problems.append(self._problem(line, path, f"the tag {tag}", "a value without a tag"))
            return None
        return Node(self._value(raw, path, depth), self._file, line, self._layer)

    def _value(self, raw: yaml.Node, path: str, depth: int) -> Value:
        if isinstance(raw, yaml.MappingNode):
            return self._mapping(raw, path, depth)
        if isinstance(raw, yaml.ScalarNode):
            return _scalar(raw.tag.removeprefix(_TAG), str(raw.value))
        items = enumerate(raw.value)
        built = [self.build(item, f"{path}[{n}]", item.start_mark.line + 1, depth + 1) for n, item in items]
        return [node for node in built if node]

    def _mapping(self, raw: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for raw_key, raw_value in raw.value:
            line = raw_key.start_mark.line + 1
            if not isinstance(raw_key, yaml.ScalarNode):
                self.problems.append(self._problem(line, path, "a key that is no name", "a name"))
                continue
            key = str(raw_key.value)
            inner = key if path == "yaml" else f"{path}.{key}"
            if key in entries:
                first = entries[key].line
                found = f"a second {key!r} (the first is in line {first})"
                self.problems.append(self._problem(line, inner, found, "each key once"))
            elif node := self.build(raw_value, inner, line, depth + 1):
                entries[key] = node
        return entries

    def _problem(self, line: int, key: str, found: str, expected: str) -> Problem:
        return Problem(self._file, line, key, found, expected)


def _scalar(tag: str, text: str) -> bool | int | float | str | None:
    if tag == "null":
        return None
    if tag == "bool":
        return _TRUTH.get(text, text)
    if tag == "int" and _INT.fullmatch(text):
        return int(text)
    if tag == "float" and _FLOAT.fullmatch(text):
        return float(text)
    return text
