"""Which build of the hot path is under test: the source, or with `make test-compiled` machine code."""

from __future__ import annotations

import os

import pytest

from proxy.core import frames
from proxy.edge import relay, splicing


@pytest.mark.parametrize("module", [frames, relay, splicing])
def test_the_build_under_test_is_the_one_that_was_asked_for(module):
    assert module.__file__.endswith(".so" if os.environ.get("READYGATE_COMPILED") else ".py")
