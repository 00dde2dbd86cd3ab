"""The door: which handshakes are turned away with what answer, and what is passed on instead."""

from __future__ import annotations

import pytest

from tests.edge.peers import KEY, Backend, request, standing

CALLER = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "bad",
    [
        request().replace(b"Version: 13", b"Version: 12"),
        request().replace(KEY, b"short"),
        request(b"/ws", b"Content-Length: 4") + b"body",
        request(b"/ws", b"Transfer-Encoding: chunked") + b"4\r\nbody\r\n0\r\n\r\n",
    ],
    ids=["version", "key", "body", "chunked body"],
)
def test_a_bad_handshake_is_answered_and_closed_and_the_backend_never_hears_of_it(bad, run, tmp_path, caplog):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(bad)
            answer = await client.end()
            assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 426"}
            assert answer.count(b"HTTP/1.1") == 1
            client.close()
            await gate.clean()
            assert backend.peers == []
            assert gate.spans() == []
            assert 'readygate_http_requests_total{status_class="4xx"} 1' in gate.gate.metrics_text()

    run(main())
    assert "bad upgrade" in caplog.text


@pytest.mark.parametrize(
    ("body", "answer", "status", "error"),
    [
        (b"nonsense\r\n", b"", 400, "RequestPayloadError"),
        (b"nonsense\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200, "RequestPayloadError"),
        (b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200, "ClientPayloadError"),
        (b"0\r\n\r\n", b"HTTP/9.9 nonsense\r\n\r\n", 502, "ClientResponseError"),
    ],
    ids=["bad request body", "bad request body, half a response", "response cut", "no answer"],
)
def test_what_goes_wrong_in_plain_http_is_told_with_route_path_client_and_trace(
    body, answer, status, error, run, tmp_path, caplog
):
    head = (
        b"POST /api?token=hunter2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"traceparent: 00-" + CALLER.encode() + b"-b7ad6b7169203331-01\r\n\r\n"
    )

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(head + b"4\r\nbody\r\n")
            upstream, _ = await backend.requested()
            if answer.endswith(b"half"):
                upstream.send(answer)
                await client.until(lambda: client.raw.endswith(b"half"))
                client.send(body)
            else:
                client.send(body)
                if answer:
                    await upstream.until(lambda: upstream.raw.endswith(body))
                    upstream.send(answer)
            if b"nonsense" not in body:
                upstream.close()
            await client.end()

    run(main())
    (line,) = [each for each in caplog.records if each.name == "readygate.http"]
    told = {key: line.fields[key] for key in ("route", "path", "client_address", "status", "trace_id")}
    assert told == {
        "route": "*",
        "path": "/api?token=REDACTED",
        "client_address": "127.0.0.1",
        "status": status,
        "trace_id": CALLER,
    }
    assert line.fields["error"] == error


def test_a_handshake_that_comes_while_the_gate_stops_is_told_of_like_any_other(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            gate.gate._shared.draining = True
            client = await gate.dial(request())
            assert (await client.end()).startswith(b"HTTP/1.1 503")
            assert gate.handshake()["readygate.outcome"] == "failed"
            counted = 'readygate_handshakes_total{outcome="failed",route="*",policy="policy.yaml"} 1'
            assert counted in gate.gate.metrics_text()

    run(main())


@pytest.mark.parametrize(
    ("first", "version"),
    [(b"GET /ws", b"HTTP/1.0"), (b"GET /ws HTTP/0.9", b"HTTP/1.0"), (b"GET /ws HTTP/2.0", b"HTTP/1.1")],
)
def test_another_http_is_refused_in_a_version_of_ours(first, version, run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(first + request().removeprefix(b"GET /ws HTTP/1.1"))
            answer = await client.end()
            assert answer.startswith(version + b" 505 HTTP Version Not Supported\r\n")
            assert b'"status": 505' in answer
            client.close()
            await gate.clean()
            assert backend.peers == []

    run(main())


def test_an_upgrade_to_something_else_passes_as_plain_http_without_its_upgrade(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(
                b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            )
            upstream, head = await backend.requested()
            assert head.startswith(b"GET /x HTTP/1.1\r\n")
            assert b"upgrade" not in head.lower()
            upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await client.until(lambda: client.raw.endswith(b"ok"))

    run(main())


def test_a_handshake_in_absolute_form_goes_to_the_host_that_it_names(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request().replace(b"GET /", b"GET http://real.test:81/"))
            upstream, head = await backend.requested()
            assert head.startswith(b"GET /ws HTTP/1.1\r\nHost: real.test:81\r\n")
            assert b"\r\nX-Forwarded-Host: real.test:81\r\n" in head
            upstream.accept(head)
            await client.upgraded()
            await gate.clean(client)

    run(main())


def test_a_gate_that_stops_takes_no_more_upgrades(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            gate.gate._shared.draining = True
            client = await gate.dial(request())
            answer = await client.end()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert backend.peers == []

    run(main())


def test_its_own_health_is_not_the_backends_business(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(
                b"GET /_readygate/readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            assert (await client.end()).startswith(b"HTTP/1.1 200 ")
            assert backend.peers == []

    run(main())
