"""What has ended is freed at once: circles would wait for the collector, whose pauses every session feels."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.edge.peers import Backend, eventually, request, standing, vanish

OURS = ("proxy.edge", "proxy.core.frames", "aiohttp")  # reports of handshakes are kept for the live page


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ours() -> Counter[str]:
    """Count what is alive of the gate's and aiohttp's."""
    kinds = (type(each) for each in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith(OURS))


@pytest.fixture(autouse=True)
def _errors_are_not_kept() -> Iterator[None]:
    """A log record that somebody keeps keeps the error, and all that it came from."""
    logger = logging.getLogger("aiohttp.server")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.usefixtures("collector_off")
def test_a_session_that_has_ended_is_freed_without_the_collector(run_on_both, tmp_path):
    async def session(backend, gate):
        client = await gate.dial(request())
        upstream = await backend.accepted()
        await client.upgraded()
        client.say("hello")
        assert await upstream.message() == "hello"
        client.bye(1000)
        assert await client.closed() == await upstream.closed()
        upstream.bye(1000)
        await vanish(client, upstream)
        await gate.gate._shared.idle()

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            await session(backend, gate)  # what is made once is made
            before = ours()
            for _ in range(5):
                await session(backend, gate)
            await eventually(lambda: most_left(before) < 5)

    run_on_both(main())


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize(
    "sent",
    [b"nothing of the kind\r\n\r\n", request().replace(b"HTTP/1.1", b"HTTP/1.2"), request(b"/ws", b"X : y")],
    ids=["no HTTP", "a bad version", "a bad field"],
)
def test_a_request_that_was_refused_is_freed_without_the_collector(run_on_both, tmp_path, sent):
    async def refused(gate):
        client = await gate.dial(sent)
        assert b" 400 " in await client.end()
        await vanish(client)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            await refused(gate)
            before = ours()
            for _ in range(5):
                await refused(gate)
            await eventually(lambda: most_left(before) < 5)

    run_on_both(main())


def most_left(before: Counter[str]) -> int:
    """How many there are more of the kind of which there are most."""
    return max((ours() - before).values(), default=0)
