from __future__ import annotations

import asyncio
import json

import pytest

from proxy.admin import EventFeed, Health, health
from proxy.admin.events import MAX_LISTENERS, MAX_WAITING, Listener
from tests.admin.serving import State, events, served


def fetch(run, path: str, state: State | None = None, method: str = "GET"):
    async def main():
        async with served(state or State()) as client, client.request(method, path) as answer:
            return answer.status, answer.headers, await answer.text()

    return run(main())


@pytest.mark.parametrize(
    ("name", "question"), [("livez", "alive"), ("readyz", "ready"), ("startupz", "started")]
)
def test_health_is_200_or_503_with_reasons(run, name, question):
    state = State()
    assert fetch(run, f"/{name}", state)[0] == 200
    assert health(state, name) == (200, b'{"status":"ok"}\n')
    state.answers[question] = Health(False, ("draining",))
    state.feed = EventFeed()
    status, headers, body = fetch(run, f"/{name}", state)
    assert (status, headers["Content-Type"]) == (503, "application/json")
    assert json.loads(body) == {"status": "unavailable", "reasons": ["draining"]}
    assert health(state, name) == (503, body.encode())


def test_an_unknown_health_question_is_not_found():
    status, body = health(State(), "healthz")
    assert (status, json.loads(body)["status"]) == (404, 404)


def test_metrics_are_prometheus_text(run):
    status, headers, body = fetch(run, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == State().metrics_text()


def test_sessions_are_json_with_both_legs(run):
    status, headers, body = fetch(run, "/sessions")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "application/json",
        "no-store",
    )
    assert json.loads(body) == {
        "sessions": [
            {
                "id": "s1",
                "route": "/ws/**",
                "path": "/ws/a",
                "client_address": "10.1.2.3",
                "age_s": 1.235,
                "client": {
                    "state": "open",
                    "messages": 4,
                    "bytes": 400,
                    "early_bytes": 0,
                    "unsent_bytes": 3,
                },
                "upstream": {
                    "state": "stabilization",
                    "messages": 1,
                    "bytes": 17,
                    "early_bytes": 17,
                    "unsent_bytes": 0,
                },
                "redials": 1,
                "trace_id": "ab" * 16,
            }
        ]
    }


def test_the_policy_is_yaml(run):
    status, headers, body = fetch(run, "/policy")
    assert (status, headers["Content-Type"].split(";")[0], body) == (
        200,
        "application/yaml",
        State().policy_text(),
    )


def test_the_index_names_every_endpoint(run):
    status, _, body = fetch(run, "/")
    assert status == 200
    for path in (
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
        "/sessions",
        "/policy",
        "/events",
        "/handshakes",
    ):
        assert path in body


def test_an_unknown_path_is_a_404_in_json(run):
    status, headers, body = fetch(run, "/nothing")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert json.loads(body)["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/sessions", "/policy", "/events"])
def test_a_wrong_method_is_a_405_that_names_the_right_ones(run, path):
    status, headers, body = fetch(run, path, method="POST")
    assert (status, headers["Allow"], json.loads(body)["status"]) == (405, "GET, HEAD", 405)


@pytest.mark.parametrize("path", ["/livez", "/events"])
def test_head_answers_without_a_body(run, path):
    status, _, body = fetch(run, path, method="HEAD")
    assert (status, body) == (200, "")


def test_events_arrive_as_they_happen_and_the_stream_ends_with_the_server(run):
    async def main():
        state = State()
        async with served(state) as client, client.get("/events") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            stream = events(answer)
            told = [await anext(stream)]
            state.feed.publish("handshake", {"outcome": "ready", "path": "/a\nb"})
            told.append(await anext(stream))
            state.feed.publish("session", {"client_code": 1000})
            told.append(await anext(stream))
            state.feed.close()
            told += [one async for one in stream]
            return told

    assert run(main()) == [
        ("comment", ": readygate events"),
        ("handshake", {"outcome": "ready", "path": "/a\nb"}),
        ("session", {"client_code": 1000}),
    ]


def test_a_quiet_stream_has_heartbeats(run):
    async def main():
        async with served(State(), heartbeat_s=0.01) as client, client.get("/events") as answer:
            stream = events(answer)
            return [await anext(stream) for _ in range(3)]

    assert run(main())[1:] == [("comment", ": heartbeat")] * 2


def test_a_slow_listener_loses_the_oldest_and_is_told_how_many(run):
    async def main() -> bytes | None:
        feed = EventFeed()
        with feed.subscribe() as listener:
            for number in range(MAX_WAITING + 3):
                feed.publish("session", {"n": number})
            return await listener.take(1.0)

    told = run(main()) or b""
    assert told.startswith(b'event: lost\ndata: {"events":3}\n\nevent: session\ndata: {"n":3}\n\n')
    assert told.endswith(b'data: {"n":%d}\n\n' % (MAX_WAITING + 2))


def test_a_listener_that_left_is_forgotten(run):
    async def main() -> list[Listener]:
        state = State()
        async with served(state, heartbeat_s=0.01) as client:
            answer = await client.get("/events")
            await anext(events(answer))
            listeners = state.feed._listeners
            assert len(listeners) == 1
            answer.close()
            while listeners:  # the next heartbeats find nobody
                await asyncio.sleep(0)
            return list(listeners)

    assert run(main()) == []


def test_there_is_a_limit_of_listeners(run):
    async def main() -> int:
        state = State()
        async with served(state) as client:
            held = [state.feed.subscribe() for _ in range(MAX_LISTENERS)]
            for one in held:
                one.__enter__()
            async with client.get("/events") as answer:
                return answer.status

    assert run(main()) == 503
