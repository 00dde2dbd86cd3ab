"""What `make audit` says of what pip-audit found."""

from __future__ import annotations

import json

import pytest

from tests.audit import verdict

SAFE = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
BAD = {
    "name": "h11",
    "version": "0.9",
    "vulns": [{"id": "GHSA-1", "fix_versions": ["0.16.0"]}, {"id": "PYSEC-2"}],
}
UNKNOWN = {"name": "readygate", "skip_reason": "not found"}


def of(*packages: object):
    return verdict(json.dumps({"dependencies": packages, "fixes": []}))


def test_a_known_vulnerability_fails_and_is_named_with_what_mends_it():
    said = of(SAFE, BAD)
    assert said.code == 1
    assert said.lines == [
        "audit: h11 0.9 has GHSA-1, fixed in 0.16.0",
        "audit: h11 0.9 has PYSEC-2, not fixed yet",
        "audit: 2 packages asked for, 2 known vulnerabilities",
    ]


def test_none_is_said_with_how_many_were_asked_for_and_which_were_not():
    said = of(SAFE, UNKNOWN)
    assert said.code == 0
    assert said.lines == [
        "audit: 1 packages asked for, 0 known vulnerabilities",
        "audit: not known there: readygate",
    ]


@pytest.mark.parametrize("report", ["", "Traceback (most recent call last):", "[]", "null", "{}"])
def test_without_the_data_it_is_skipped_and_not_passed(report):
    said = verdict(report)
    assert (said.code, len(said.lines)) == (0, 1)
    assert "skipped" in said.lines[0]


def test_data_that_knows_none_of_the_packages_is_no_audit():
    said = of(UNKNOWN, UNKNOWN)
    assert (said.code, len(said.lines)) == (0, 1)
    assert "skipped" in said.lines[0]
