"""The door: what is a WebSocket handshake, and which ones are turned away with what answer."""

from __future__ import annotations

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from proxy.edge.accept import BadUpgrade, asks_for_websocket, check_upgrade
from tests.edge.peers import KEY, Backend, request, standing

GOOD = [
    ("Host", "a"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY.decode()),
]


def asked(*changes: tuple[str, str | None], method: str = "GET", version=HttpVersion11):
    """A request with a good handshake's fields, changed: a value of None removes, others are added."""
    removed = {name for name, value in changes} - {"+"}
    pairs = [pair for pair in GOOD if pair[0] not in removed]
    pairs += [(name, value) for name, value in changes if value is not None]
    return make_mocked_request(method, "/ws", CIMultiDict(pairs), version=version)


@pytest.mark.parametrize(
    "good",
    [
        asked(),
        asked(("Connection", "keep-alive, Upgrade")),
        asked(("Connection", "keep-alive"), ("Connection", "UPGRADE")),
        asked(("Upgrade", "WebSocket")),
        asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")),
    ],
    ids=["plain", "options", "two Connection lines", "case", "another key"],
)
def test_a_good_handshake_gives_its_key(good):
    assert check_upgrade(good) == good.headers["Sec-WebSocket-Key"].encode()


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        (asked(version=HttpVersion10), 400, "HTTP/1.1"),
        (asked(("Upgrade", None)), 426, "Upgrade field"),
        (asked(("Upgrade", "h2c")), 426, "Upgrade field"),
        (asked(("Upgrade", "websocket, h2c")), 426, "Upgrade field"),
        (asked(("Connection", None)), 400, "Connection field"),
        (asked(("Connection", "keep-alive")), 400, "Connection field"),
        (asked(("Connection", "upgraded")), 400, "Connection field"),
        (asked(("Sec-WebSocket-Version", None)), 400, "Version field is missing"),
        (asked(("Sec-WebSocket-Version", "8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Version", "13, 8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Key", None)), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAA")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAA AAAAAAAAAA==")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "é" * 22 + "==")), 400, "Sec-WebSocket-Key"),
        (
            asked(("Sec-WebSocket-Key", KEY.decode()), ("Sec-WebSocket-Key", KEY.decode())),
            400,
            "Sec-WebSocket-Key",
        ),
    ],
)
def test_each_rule_of_rfc_6455_section_4_2_1_has_its_answer(bad, status, reason):
    with pytest.raises(BadUpgrade, match=reason) as caught:
        check_upgrade(bad)
    response = caught.value.response()
    assert response.status == status
    assert response.headers["Sec-WebSocket-Version"] == "13"
    assert response.content_type == "application/problem+json"
    assert ("Upgrade" in response.headers) == (status == 426)


@pytest.mark.parametrize(
    ("some", "means_to"),
    [
        (asked(), True),
        (asked(("Sec-WebSocket-Key", None)), True),
        (asked(("Sec-WebSocket-Version", None)), True),
        (asked(("Upgrade", None), ("Connection", None)), True),
        (asked(("Sec-WebSocket-Key", None), ("Sec-WebSocket-Version", None)), False),
        (asked(method="POST"), False),
        (asked(method="HEAD"), False),
    ],
    ids=["whole", "no key", "no version", "no hop fields", "only hop fields", "POST", "HEAD"],
)
def test_a_request_means_to_be_a_handshake_by_its_method_and_its_own_fields(some, means_to):
    assert asks_for_websocket(some) is means_to


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
