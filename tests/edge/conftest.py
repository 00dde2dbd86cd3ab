"""What the edge's tests share: both event loops, and a look at the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

T = TypeVar("T")
HANG_S = 15  # well below what pytest-timeout allows a test, so that a hang shows where it is


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run_on_both(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine to its end on a fresh loop, once on uvloop and once on asyncio's own."""

    def runner(coro: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(HANG_S):
                return await coro

        with asyncio.Runner(loop_factory=request.param) as loop_runner:
            return loop_runner.run(bounded())

    return runner


@pytest.fixture(autouse=True)
def _no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A bug that the gate survived is a bug: whatever it or the loop logs as an error fails the test.

    aiohttp's own errors are not looked at: it logs what clients do wrong as one.
    """
    yield
    records = [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
    errors = [each for each in records if each.name.partition(".")[0] in {"asyncio", "readygate"}]
    assert not errors, [record.getMessage() for record in errors]
