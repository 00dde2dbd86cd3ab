"""What a running gate tells of its handshakes and sessions on its admin port, with and without workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from urllib.request import urlopen

import aiohttp
import pytest

from tests.admin.serving import events
from tests.backends import front, launch, wire
from tests.page import mix


def told(gate: launch.Server, name: str) -> list[dict]:
    with urlopen(f"http://127.0.0.1:{gate.admin_port}/{name}") as answer:
        return json.load(answer)[name]


@pytest.fixture(scope="module")
def gate():
    with launch.flaky() as backend, front.gate(backend.url, mix.FLAKY_POLICY) as front_gate:
        yield front_gate


def test_a_handshake_is_told_with_its_tries_its_stages_and_its_first_reply(run, gate):
    async def main():
        client = await mix.talk((gate.host, gate.port), mix.cold("/cold", 2))
        seen = await asyncio.to_thread(lambda: (told(gate, "handshakes"), told(gate, "sessions")))
        await client.leave()
        return seen

    handshakes, sessions = run(main())
    one, session = handshakes[-1], sessions[-1]
    assert (one["trace_id"], one["redials"]) == (session["trace_id"], session["redials"])
    assert (one["route"], one["outcome"], one["redial_causes"]) == ("/cold", "ready", ["status_503"] * 2)
    tries = [(step["attempt"], step["error"]) for step in one["steps"] if step["name"] == "upgrade"]
    assert tries == [(1, "status_503"), (2, "status_503"), (3, None)]
    stages = [step for step in one["steps"] if "evidence" in step]
    assert {step["leg"] for step in stages} == {"upstream", "client"}
    assert all(0 <= step["start_ms"] <= step["end_ms"] <= one["ms"] for step in one["steps"])
    assert one["first_reply_ms"] > 0


def test_what_an_upstream_does_not_say_has_no_first_reply(run, gate):
    async def main():
        client = await wire.opened((gate.host, gate.port), "/echo?silent")
        client.send(wire.close())
        await client.gone.wait()

    run(main())
    silent = [one for one in told(gate, "handshakes") if one["path"] == "/echo?silent"]
    assert [one["first_reply_ms"] for one in silent] == [None]


def test_a_client_that_takes_nothing_shows_how_much_waits_for_it(run, gate):
    async def main():
        client = await mix.talk((gate.host, gate.port), "/echo?deaf")
        client.transport.pause_reading()
        client.send(*(wire.binary(bytes(1 << 20)) for _ in range(24)))
        while True:
            sessions = await asyncio.to_thread(told, gate, "sessions")
            waits = [one["client"]["unsent_bytes"] for one in sessions if one["path"] == "/echo?deaf"]
            if waits and waits[0] > 0:
                break
        client.abort()
        return waits

    assert len(run(main())) == 1


def test_workers_tell_of_their_handshakes_together(run):
    async def main(front_gate):
        for number in range(4):
            await (await mix.talk((front_gate.host, front_gate.port), f"/echo?{number}")).leave()
        return await asyncio.to_thread(told, front_gate, "handshakes")

    with launch.flaky() as backend, front.gate(backend.url, workers="2") as front_gate:
        handshakes = run(main(front_gate))
    assert [one["path"] for one in handshakes] == [f"/echo?{number}" for number in range(4)]
    assert {one["worker"] for one in handshakes} <= {1, 2}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_page_and_stream_of_workers_are_behind_the_admin_token(run, method):
    token = "correct-horse-battery-staple"

    async def main(port):
        statuses = {}
        for shown in ({}, {"Authorization": aiohttp.encode_basic_auth("anyone", token)}):
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=shown) as admin:
                for path in ("/", "/page/main.js", "/page/events", "/handshakes"):
                    async with admin.request(method, path) as answer:
                        statuses.setdefault(path, []).append(answer.status)
        return statuses

    env = {"READYGATE_ADMIN_TOKEN": token}
    with front.gate("http://127.0.0.1:9", env=env, workers="2") as front_gate:
        statuses = run(main(front_gate.admin_port))
    assert set(map(tuple, statuses.values())) == {(401, 200)}


def test_a_page_is_told_which_worker_is_gone_and_that_another_has_taken_its_place(run):
    async def main(front_gate):
        (worker, *_) = map(
            int, Path(f"/proc/{front_gate.pid}/task/{front_gate.pid}/children").read_text().split()
        )
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{front_gate.admin_port}") as admin,
            admin.get("/page/events") as answer,
        ):
            stream, told_of = events(answer), []
            while True:
                kind, data = await anext(stream)
                if kind in {"hello", "gone"}:
                    told_of.append((kind, data["worker"]))
                    if len(told_of) == 2:
                        os.kill(worker, signal.SIGKILL)
                if ("gone", told_of[-1][1] if told_of else 0) in told_of and told_of[-1][0] == "hello":
                    return told_of

    with launch.flaky() as backend, front.gate(backend.url, workers="2") as front_gate:
        first, second, gone, *more, back = run(main(front_gate))
    assert {first, second} == {("hello", 1), ("hello", 2)}
    assert gone[0] == "gone"
    assert back == ("hello", gone[1])
    assert set(more) <= {gone}


def test_a_trace_url_without_a_place_for_the_trace_is_refused():
    with pytest.raises(
        RuntimeError, match="READYGATE_TRACE_URL 'javascript:x': expected an http or https URL"
    ):
        front.gate("http://127.0.0.1:9", env={"READYGATE_TRACE_URL": "javascript:x"})
