from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.backends import launch
from tests.bench import backend, crowd, peers, process, visit, web
from tests.bench.relaying import deflated, echo, fragmented, push
from tests.bench.result import DIRECT, GATE, PLAIN
from tests.bench.stand import stand

REQUIRED = {"nginx"}


@pytest.fixture(params=peers.PEERS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way; those whose proxy is not installed are skipped, but under CI some must be there."""
    if why := peers.missing(request.param):
        if os.environ.get("CI") == "true" and request.param in REQUIRED:
            pytest.fail(why)
        pytest.skip(why)
    return request.param


def starts(way: str) -> dict:
    return {} if way == DIRECT else {way: peers.START[way]}


def test_a_message_comes_back_through_each_proxy(way: str, run):
    with stand(backend.start, starts(way)) as running:
        run(visit.come_and_go(running.address(way)))
        if way != DIRECT:
            assert process.cpu_s(running.proxies[way].pid) > 0
            assert peers.version(way)


@pytest.mark.skipif(not peers.build(), reason="not compiled: make build/compiled")
@pytest.mark.parametrize(("way", "compiled"), [(GATE, True), (PLAIN, False)])
def test_the_gate_is_measured_in_the_build_that_is_named(way: str, compiled: bool, run):
    with stand(backend.start, starts(way)) as running:
        run(visit.come_and_go(running.address(way)))
        libraries = Path(f"/proc/{running.proxies[way].pid}/maps").read_text()
        assert ("/proxy/core/frames." in libraries) == compiled


def test_bursts_fragments_pushes_and_compressed_messages_come_back(way: str, run):
    async def once(shot: crowd.Shot) -> dict[str, float]:
        players = crowd.Crowd(shot)
        await players.open(running.address(way), 3)
        try:
            return await players.play(0.01, lambda: running.meter(way))
        finally:
            players.close()

    with stand(backend.start, starts(way)) as running:
        for shot in (echo(64, 8), fragmented(1024, 4), push(64, 3, way), deflated()):
            reading = run(once(shot))
            assert reading["per_s"] > 0
            assert ("cpu_us" in reading) == (way != DIRECT)


def test_bodies_pass_through_each_proxy_both_ways(way: str, run):
    async def both() -> int:
        caller = await web.caller(running.address(way))
        await caller.call("GET", "/1000000")
        await caller.call("POST", "/", 1_000_000)
        await caller.call("GET", "/10")
        caller.transport.abort()
        return await web.received((running.backend.host, running.backend.port))

    with stand(web.start, starts(way)) as running:
        assert run(both()) == 1_000_000


def test_a_proxy_that_is_not_installed_says_what_to_do(monkeypatch):
    monkeypatch.setitem(peers.BINARIES, "caddy", lambda: launch.installed("no-such-proxy"))
    assert peers.missing("caddy") == "no-such-proxy is not installed: make bench-setup"
