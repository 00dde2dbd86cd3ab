"""One real collector for a file of tests. Without the tools they are skipped; under CI they fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.collectors.collector import Collector
from tests.integration.conftest import skipping


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with skipping():
        started = Collector()
    with started:
        yield started
