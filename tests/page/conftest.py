"""One gate before a backend that falls over, one browser: for all tests of the page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import uvloop

from tests.backends import front, launch
from tests.backends.launch import MissingToolError, Server
from tests.page import mix
from tests.page.browser import chromium, page_of

T = TypeVar("T")
HANG_S = 30


@dataclass
class Stage:
    """A running gate and a browser; both live on one loop, on which `run` runs what a test wants."""

    runner: asyncio.Runner
    backend: Server
    gate: Server
    browser: Any

    @property
    def address(self) -> mix.Address:
        return (self.gate.host, self.gate.port)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(HANG_S):
                return await coro

        return self.runner.run(bounded())

    @asynccontextmanager
    async def page(self, gate: Server | None = None, **options: object):
        """Open the page; at its end the console has nothing to complain of."""
        async with page_of(self.browser, (gate or self.gate).admin_port, **options) as (page, complaints):
            page.set_default_timeout(10_000)
            yield page
            assert complaints == []


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        try:
            browser = runner.run(stack.enter_async_context(chromium()))
        except MissingToolError as missing:
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(f"in CI every tool must be there: {missing}")
            pytest.skip(str(missing))
        try:
            backend = stack.enter_context(launch.flaky())
            gate = stack.enter_context(front.gate(backend.url, mix.FLAKY_POLICY))
            yield Stage(runner, backend, gate, browser)
        finally:
            runner.run(stack.aclose())
