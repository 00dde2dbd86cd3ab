"""`make audit`: known vulnerabilities of what constraints.txt pins, by pip-audit.

Exit code 1 if there are any. Where the advisory data cannot be reached, or knows nothing of our packages,
that is said, and the audit counts as skipped: a machine without internet must still be able to build.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_S = 90
COMMAND = [
    *(sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt", "--no-deps", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off", "--timeout", "5"),
]


@dataclass(frozen=True)
class Verdict:
    """What came of it: the exit code, and the lines that say so."""

    code: int
    lines: list[str]


def verdict(report: str) -> Verdict:
    """Judge what pip-audit wrote to stdout; nothing, when it could not ask."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(0, ["audit: skipped, the advisory data cannot be reached from here"])
    asked = [each for each in packages if "skip_reason" not in each]
    unknown = sorted(each["name"] for each in packages if "skip_reason" in each)
    if not asked:
        told = f"audit: skipped, the advisory data that can be reached knows none of {len(unknown)} packages"
        return Verdict(0, [told])
    found = [
        f"audit: {each['name']} {each['version']} has {one['id']}, {_fixed(one)}"
        for each in asked
        for one in each["vulns"]
    ]
    lines = [*found, f"audit: {len(asked)} packages asked for, {len(found)} known vulnerabilities"]
    if unknown:
        lines.append(f"audit: not known there: {', '.join(unknown)}")
    return Verdict(1 if found else 0, lines)


def _fixed(vulnerability: dict[str, list[str]]) -> str:
    versions = vulnerability.get("fix_versions")
    return f"fixed in {', '.join(versions)}" if versions else "not fixed yet"


def main() -> int:
    try:
        done = subprocess.run(
            COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        report = done.stdout
    except subprocess.TimeoutExpired:
        report = ""
    said = verdict(report)
    print("\n".join(said.lines))
    return said.code


if __name__ == "__main__":
    sys.exit(main())
