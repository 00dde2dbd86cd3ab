from __future__ import annotations

import tomllib
from pathlib import Path

from proxy import __version__
from tests.release.__main__ import demo_problems
from tests.release.contents import changelog_problems, sdist_problems, wheel_problems

ROOT = Path(__file__).resolve().parents[2]
TRACKED = [
    "proxy/__init__.py",
    "proxy/py.typed",
    "policies/production.yaml",
    "tests/a.py",
    "README.md",
    ".ci/run",
]
INFO = ["readygate-1.dist-info/METADATA", "readygate-1.dist-info/licenses/LICENSE"]
WHEEL = ["proxy/__init__.py", "proxy/py.typed", "proxy/policies/production.yaml", *INFO]


def test_a_wheel_with_all_of_the_package_the_policies_and_the_licence_is_good():
    assert wheel_problems(WHEEL, TRACKED) == []


def test_a_wheel_without_a_policy_a_marker_or_the_licence_is_not():
    assert wheel_problems(["proxy/__init__.py"], TRACKED) == [
        "the wheel has no proxy/policies/production.yaml",
        "the wheel has no proxy/py.typed",
        "the wheel has no LICENSE",
    ]


def test_a_wheel_with_tests_or_caches_is_not():
    more = ["tests/a.py", "proxy/__pycache__/x.pyc"]
    assert wheel_problems([*WHEEL, *more], TRACKED) == [
        "the wheel has proxy/__pycache__/x.pyc",
        "the wheel has tests/a.py",
    ]


def test_a_source_archive_has_what_is_tracked_and_nothing_else():
    names = [name for name in TRACKED if name != ".ci/run"]
    assert sdist_problems([*names, "PKG-INFO"], TRACKED) == []
    assert sdist_problems(names[1:], TRACKED) == ["the sdist has no proxy/__init__.py"]
    assert sdist_problems([*names, "bench-results/a.json"], TRACKED) == ["the sdist has bench-results/a.json"]
    litter = ["tests/__pycache__/a.pyc"]
    assert sdist_problems([*names, *litter], [*TRACKED, *litter]) == ["the sdist has tests/__pycache__/a.pyc"]


def test_a_changelog_has_an_entry_for_this_version_or_for_what_is_to_come():
    assert changelog_problems("# C\n\n## [Unreleased]\n\n- a\n", "1.2.3") == []
    assert changelog_problems("# C\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-01\n\n- a\n", "1.2.3") == []
    assert changelog_problems("# C\n\n## [Unreleased]\n\n## [1.2.2]\n\n- a\n", "1.2.3") != []
    assert changelog_problems((ROOT / "CHANGELOG.md").read_text(), __version__) == []


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "proxy/__init__.py"


def test_a_demo_that_lost_a_client_through_the_gate_or_logged_an_error_is_a_problem():
    lost = "first frame  0 of 30 served (lost x30)  29 of 30 served\n"
    loud = "client gone  30 errors in the log       2 errors in the log\n"
    assert demo_problems(lost + loud) == ["demo: first frame: 29 of 30 served", "demo: client gone: 2 errors"]
    assert demo_problems(lost.replace("29", "30") + loud.replace("2 ", "0 ")) == []
    assert demo_problems("nothing") == ["the demo printed no table"]
