"""Read a policy, whatever it extends and its routes; check all of it; freeze it."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.policy.consistency import OF_THE_PROCESS, conflicts, route_conflicts
from proxy.policy.convert import to_settings
from proxy.policy.dump import dump
from proxy.policy.explain import validate
from proxy.policy.files import anchored, named_files
from proxy.policy.problems import PolicyError, Problem, either, show
from proxy.policy.routes import compile_pattern
from proxy.policy.settings import ANY_PATH, Policy, Route
from proxy.policy.stages import settle
from proxy.policy.tree import Node, merge, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.policy.model import Document

BASE = "production"
MAX_FILE_BYTES = 1 << 20
_ROUTE_LAYER = 1
_OVERRIDABLE = ("handshake", "upstream", "guard", "session", "departure", "keepalive", "limits")
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a policy: the policy, or all that is wrong with it.

    `files`: every file that was looked for, with the digest of its content; None: there was nothing to read.
    They stand for what was read, so that a later look tells whether it has changed.
    """

    policy: Policy | None
    problems: tuple[Problem, ...]
    files: Mapping[Path, str | None]

    def same(self, other: Reading) -> bool:
        """Whether both decide the same: an equal policy, and the same authorities and keys to trust."""
        return self.policy == other.policy and self._trusted == other._trusted

    @property
    def _trusted(self) -> list[str | None]:
        return [self.files.get(file) for file in named_files(self.policy)] if self.policy else []


class _Notes:
    """What is gathered while a policy is read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.files: dict[Path, str | None] = {}


def digest(file: Path) -> str | None:
    """Return a digest of what a policy would read of this file; None when it cannot be read."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return _digest(stream.read(MAX_FILE_BYTES + 1))
    except (OSError, ValueError):
        return None


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def presets() -> dict[str, Path]:
    """Return the presets by name: those in the wheel, else those of the checkout."""
    package = Path(__file__).parent.parent
    folder = next(f for f in (package / "policies", package.parent / "policies") if f.is_dir())
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load(name_or_path: str) -> Policy:
    """Load a preset by its name, or a policy file (a preset wins over a file of the same name).

    Raise `PolicyError` with everything that is wrong in the file, what it extends and its routes.
    """
    reading = examine(name_or_path)
    if reading.policy is None:
        raise PolicyError(list(reading.problems))
    return reading.policy


def examine(name_or_path: str, name: str = "") -> Reading:
    """Read a preset or a policy file as `load` does, and tell what came of it, good or bad.

    `name`: what the policy is called; "": the preset's or the file's own name.
    """
    notes = _Notes()
    policy = _loaded(name_or_path, name, notes)
    if policy is not None:
        notes.files |= {file: digest(file) for file in named_files(policy)}
    return Reading(policy, tuple(_in_order(notes.problems)), notes.files)


def _loaded(name_or_path: str, name: str, notes: _Notes) -> Policy | None:
    problems = notes.problems
    file = _resolve(name_or_path, Path(), notes)
    if file is None:
        problems.append(Problem(name_or_path, None, "policy", _missing(name_or_path), _known(name_or_path)))
        return None
    tree = _chain(file, 0, [], notes)
    if tree is None:
        return None
    effective = settle(tree)
    document, wrong = validate(effective)
    problems += [*wrong, *conflicts(effective, wrong), *route_conflicts(effective)]
    overridden = _overridden(tree, problems)
    if document is None or problems:
        return None
    own = name_or_path if name_or_path in presets() else file.name
    return _frozen(name or own, document, overridden)


def _chain(file: Path, layer: int, below: list[Path], notes: _Notes) -> Node | None:
    """Return `file` laid over all that it extends, in the end over the base. None when it cannot be read."""
    tree = _read(file, layer, notes)
    if tree is None or file.resolve() == presets()[BASE].resolve():
        return tree
    chain = [*below, file]
    parent = presets()[BASE]
    extends = tree.find("extends")
    if extends and extends.value is not None:
        named = _parent(extends, file.parent, chain, notes)
        if isinstance(named, Problem):
            notes.problems.append(named)  # and go on over the base, to find what else is wrong
        else:
            parent = named
    beneath = _chain(parent, layer - 1, chain, notes)
    return beneath and merge(beneath, tree.without("extends"))


def _parent(extends: Node, folder: Path, chain: list[Path], notes: _Notes) -> Path | Problem:
    name = extends.value
    if not isinstance(name, str):
        return Problem(extends.file, extends.line, "extends", show(extends.plain()), _known(""))
    file = _resolve(name, folder, notes)
    if file is None:
        return Problem(extends.file, extends.line, "extends", _missing(name), _known(name))
    resolved = [each.resolve() for each in chain]
    if file.resolve() in resolved:
        cycle = " -> ".join(each.name for each in [*chain[resolved.index(file.resolve()) :], file])
        expected = "a policy that does not extend this one"
        return Problem(extends.file, extends.line, "extends", f"a cycle ({cycle})", expected)
    return file


def _resolve(name: str, folder: Path, notes: _Notes) -> Path | None:
    """Return the file of a preset or, relative to `folder`, of a path; None when there is no such file."""
    preset = presets().get(name)
    if preset:
        return preset
    if not name or "\0" in name:
        return None
    file = folder / name
    try:
        if file.is_file():
            return file
    except OSError:
        return file  # reading it will tell what is wrong
    notes.files[file] = None  # it may come to be
    return None


def _missing(name: str) -> str:
    is_path = "/" in name or name.endswith(_SUFFIXES)
    return f"no such file: {name}" if is_path else f"no preset {show(name).removeprefix('the text ')}"


def _known(name: str) -> str:
    close = difflib.get_close_matches(name, presets(), n=1, cutoff=0.5)
    return f"{either([*presets(), 'a policy file'])}" + (f" (did you mean {close[0]}?)" if close else "")


def _read(file: Path, layer: int, notes: _Notes) -> Node | None:
    problems = notes.problems
    notes.files[file] = None
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        problems.append(
            Problem(str(file), None, "policy", error.strerror or str(error), "a file that can be read")
        )
        return None
    notes.files[file] = _digest(raw)
    if len(raw) > MAX_FILE_BYTES:
        problems.append(
            Problem(str(file), None, "policy", "a larger file", f"at most {MAX_FILE_BYTES} bytes")
        )
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.append(Problem(str(file), line, "yaml", f"the byte {raw[error.start]:#04x}", "UTF-8"))
        return None
    tree, wrong = read(text, str(file), layer)
    problems += wrong
    return tree and anchored(tree, file.parent)


def _overridden(tree: Node, problems: list[Problem]) -> list[Document]:
    """Check each route's overrides laid over the rest; return the documents of those that are right.

    What is wrong above the routes is wrong in each of them; it is not said again.
    """
    top = tree.without("routes")
    known = set(problems)
    documents = []
    routes = tree.entries().get("routes")
    for number, route in enumerate(routes.items() if routes else []):
        overrides = route.lifted(_ROUTE_LAYER)
        sections = {k: v for k, v in overrides.entries().items() if k in _OVERRIDABLE and v.entries()}
        for section, (names, _) in OF_THE_PROCESS.items():
            if section in sections:
                sections[section] = sections[section].without(*names)  # refused by `route_conflicts`
        effective = settle(merge(top, replace(overrides, value=sections)))
        document, wrong = validate(effective)
        fresh = [p for p in (*wrong, *conflicts(effective, wrong)) if p not in known]
        problems += [replace(problem, key=f"routes[{number}].{problem.key}") for problem in fresh]
        if document:
            documents.append(document)
    return documents


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Order by file as met, then line; drop what was found twice."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(dict.fromkeys(problems), key=lambda p: (files.index(p.file), p.line or 0))


def _frozen(name: str, document: Document, overridden: list[Document]) -> Policy:
    routes = tuple(
        Route(route.path, to_settings(effective), route.rewrite, compile_pattern(route.path))
        for route, effective in zip(document.routes, overridden, strict=True)
    )
    default = Route(ANY_PATH, to_settings(document))
    return Policy(name, default, routes, dump(name, document, overridden))
