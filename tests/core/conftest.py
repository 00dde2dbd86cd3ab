"""What the core's tests share: a manual clock, and handshakes as scripts that are checked to their end."""

from __future__ import annotations

import pytest

from tests.core.script import Clock, Script, handshake_plan


@pytest.fixture
def clock():
    """A clock that moves when it is told to."""
    return Clock()


@pytest.fixture
def script():
    """Start a script over any plan; at the end of the test no command may be left that it did not name."""
    scripts = []

    def start(plan=None, **options):
        scripts.append(Script(plan or handshake_plan(), **options))
        return scripts[-1]

    yield start
    for each in scripts:
        each.done()


@pytest.fixture
def handshake(script):
    """A mirrored handshake with the budgets of `production`."""
    return script()
