"""What the two archives of a release must have and must not have, and what the changelog must say."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What no archive may have, wherever it stands.
_LITTER = re.compile(
    r"(^|/)(__pycache__|node_modules|\.venv|\.git|\.(mypy|ruff|pytest)_cache|\.hypothesis|[a-z]+-results|dist|build)/"
    r"|\.(pyc|so)$"
)
_INFO = re.compile(r"^readygate-[^/]+\.dist-info/")


def wheel_problems(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Compare a wheel's names with those of the repository: all of `proxy/`, the policies, the licence."""
    found = set(names)
    wanted = {name for name in tracked if name.startswith("proxy/")}
    wanted |= {f"proxy/{name}" for name in tracked if name.startswith("policies/")}
    problems = [f"the wheel has no {name}" for name in sorted(wanted - found)]
    strange = {name for name in found - wanted if not _INFO.match(name)}
    problems += [f"the wheel has {name}" for name in sorted(strange)]
    if not any(_INFO.match(name) and name.endswith("/licenses/LICENSE") for name in found):
        problems.append("the wheel has no LICENSE")
    return problems


def sdist_problems(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Compare a source archive's names, its top folder cut off, with the files of the repository.

    It has them all but those of the repository itself (names that begin with a dot), and nothing else.
    """
    found = set(names)
    wanted = {name for name in tracked if not name.startswith(".")}
    problems = [f"the sdist has no {name}" for name in sorted(wanted - found)]
    strange = found - set(tracked) - {"PKG-INFO"}
    problems += [f"the sdist has {name}" for name in sorted(strange)]
    problems += [f"the sdist has {name}" for name in sorted(found - strange) if _LITTER.search(name)]
    return problems


def changelog_problems(text: str, version: str) -> list[str]:
    """See that the changelog says something of this version, or of what is to come."""
    heads = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for section in heads:
        head, _, body = section.partition("\n")
        if re.match(rf"\[(Unreleased|{re.escape(version)})\]", head) and re.search(
            r"^- ", body, re.MULTILINE
        ):
            return []
    return [f"CHANGELOG.md says nothing of {version}, and nothing under Unreleased"]
