"""Who is not let in: for its origin, for its host; and what of a request is passed on as said by a proxy."""

from __future__ import annotations

import json
import re

import pytest
from opentelemetry.trace import StatusCode

from tests.edge.door import opened, stand
from tests.edge.peers import POLICY, Stand, request

LISTED = f'{POLICY}guard: {{origins: [same, "https://app.example"]}}\n'
HOSTED = f"{POLICY}guard: {{hosts: [example.test]}}\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def plain(
    host: bytes = b"example.test", path: bytes = b"/plain", *fields: bytes, version: bytes = b"1.1"
) -> bytes:
    lines = [b"GET " + path + b" HTTP/" + version, *([b"Host: " + host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def refused(gate: Stand, asked: bytes) -> tuple[int, dict[str, object]]:
    """Status and problem document of the answer; the gate closes behind it."""
    client = await gate.dial(asked)
    head, _, body = (await client.end()).partition(b"\r\n\r\n")
    client.close()
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert b"\r\nConnection: close" in head or head.startswith(b"HTTP/1.0")
    return int(head.split()[1]), json.loads(body)


def counted(gate: Stand, reason: str) -> int:
    found = re.search(rf'readygate_guard_refused_total{{reason="{reason}"}} (\d+)', gate.gate.metrics_text())
    return int(found[1]) if found else 0


# -- origins ----------------------------------------------------------------------------------------------


def test_a_page_that_is_not_listed_gets_a_403_and_the_upstream_never_hears_of_it(run, tmp_path, caplog):
    async def main():
        async with stand(tmp_path, LISTED) as (gate, backend):
            status, told = await refused(gate, request(b"/ws", b"Origin: https://evil.example"))
            assert (status, told) == (
                403,
                {"title": "Forbidden", "status": 403, "detail": "this origin may not open a WebSocket here"},
            )
            assert backend.peers == []
            (span,) = gate.spans("websocket.handshake")
            assert span.attributes["readygate.outcome"] == "rejected"
            assert span.attributes["readygate.guard"] == "origin"
            assert span.attributes["http.response.status_code"] == 403
            assert span.status.status_code is StatusCode.UNSET  # a page's doing, no error of ours
            assert counted(gate, "origin") == 1
            metrics = gate.gate.metrics_text()
            assert "readygate_handshakes_pending 0" in metrics
            assert "readygate_http_requests_total{" not in metrics  # it was a handshake
            assert "readygate_limits_hit_total{" not in metrics

    run(main())
    (line,) = [each for each in caplog.records if each.getMessage() == "not let in"]
    assert line.fields == {"reason": "origin", "status": 403, "found": "https://evil.example", "refused": 1}


@pytest.mark.parametrize(
    "fields",
    [
        (b"Origin: https://app.example",),
        (b"Origin: http://example.test",),  # the page of the gate's own host
        (),
    ],
    ids=["listed", "same", "none"],
)
def test_who_is_listed_and_who_is_no_browser_is_served(fields, run, tmp_path):
    async def main():
        async with stand(tmp_path, LISTED) as (gate, backend):
            await opened(gate, backend, *fields)
            assert counted(gate, "origin") == 0

    run(main())


@pytest.mark.parametrize(
    "fields",
    [
        (b"Origin: https://app.example", b"Origin: https://app.example"),
        (b"Origin: https://app.example, https://app.example",),
        (b"Origin: null",),
        (b"Origin:",),
        (b"Origin: https://app.example\xff",),
        (b"Origin: https://evil.example", b"X-Forwarded-Host: evil.example"),  # no hop is trusted
    ],
)
def test_what_is_not_one_listed_origin_is_refused(fields, run, tmp_path):
    async def main():
        async with stand(tmp_path, LISTED) as (gate, backend):
            assert (await refused(gate, request(b"/ws", *fields)))[0] == 403
            assert backend.peers == []

    run(main())


def test_same_is_what_a_trusted_hop_says_was_asked_for(run, tmp_path):
    async def main():
        policy = f"{LISTED}http: {{trusted_hops: 1}}\n"
        async with stand(tmp_path, policy) as (gate, backend):
            host = b"X-Forwarded-Host: www.example"
            await opened(gate, backend, host, b"Origin: https://www.example")
            inner = request(b"/ws", host, b"Origin: https://example.test")
            assert (await refused(gate, inner))[0] == 403

    run(main())


def test_an_origin_may_be_required_and_a_route_may_be_open(run, tmp_path):
    route = "routes: [{path: /ws, guard: {origin_required: false}}]\n"
    policy = f"{POLICY}guard: {{origin_required: true}}\n{route}"

    async def main():
        async with stand(tmp_path, policy) as (gate, backend):
            status, told = await refused(gate, request(b"/other"))
            assert (status, told["detail"]) == (403, "an Origin is required to open a WebSocket here")
            await opened(gate, backend)

    run(main())


def test_plain_http_is_not_asked_for_its_origin(run, tmp_path):
    async def main():
        async with stand(tmp_path, LISTED) as (gate, backend):
            client = await gate.dial(plain(b"example.test", b"/api", b"Origin: https://evil.example"))
            upstream, head = await backend.requested()
            assert b"Origin: https://evil.example" in head
            upstream.send(EMPTY)
            assert (await client.head()).startswith(b"HTTP/1.1 204")

    run(main())


def test_a_flood_of_pages_leaves_one_line_and_nothing_secret_or_odd_in_it(run, tmp_path, caplog):
    odd = b"https://evil.example/?token=hunter2hunter2&x=\xff\x80" + b"y" * 2000

    async def main():
        async with stand(tmp_path, LISTED) as (gate, _):
            for _ in range(5):
                assert (await refused(gate, request(b"/ws", b"Origin: " + odd)))[0] == 403
            assert counted(gate, "origin") == 5

    run(main())
    (line,) = [each for each in caplog.records if each.getMessage() == "not let in"]
    assert "hunter2" not in line.fields["found"]
    assert len(line.fields["found"].encode()) <= 300


# -- hosts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", [plain(b"evil.example"), request().replace(b"example.test", b"evil.example")]
)
def test_a_host_that_is_not_listed_gets_a_421(asked, run, tmp_path, caplog):
    async def main():
        async with stand(tmp_path, HOSTED) as (gate, backend):
            status, told = await refused(gate, asked)
            assert (status, told) == (
                421,
                {"title": "Misdirected Request", "status": 421, "detail": "this host is not served here"},
            )
            assert backend.peers == []
            assert counted(gate, "host") == 1
            metrics = gate.gate.metrics_text()
            assert 'readygate_http_requests_total{status_class="4xx"} 1' in metrics
            assert 'readygate_http_duration_seconds_count{status_class="4xx"} 1' in metrics
            await opened(gate, backend)

    run(main())
    (line,) = [each for each in caplog.records if each.getMessage() == "not let in"]
    assert line.fields == {"reason": "host", "status": 421, "found": "evil.example", "refused": 1}


def test_probes_are_answered_whatever_address_they_come_by(run, tmp_path):
    async def main():
        async with stand(tmp_path, HOSTED) as (gate, _):
            client = await gate.dial(plain(b"10.1.2.3:8080", b"/_readygate/livez"))
            assert (await client.head()).startswith(b"HTTP/1.1 200")

    run(main())


def test_a_request_without_any_host_is_not_for_a_listed_one(run, tmp_path):
    async def main():
        async with stand(tmp_path, HOSTED) as (gate, _):
            assert (await refused(gate, plain(b"", version=b"1.0")))[0] == 421

    run(main())


def test_a_forwarded_host_that_is_passed_on_has_to_be_listed_too(run, tmp_path):
    forged = plain(b"example.test", b"/plain", b"X-Forwarded-Host: evil.example")

    async def main():
        async with stand(tmp_path, HOSTED) as (gate, _):
            assert (await refused(gate, forged))[0] == 421
        async with stand(tmp_path, f"{HOSTED}http: {{forwarded: replace}}\n") as (gate, backend):
            await gate.dial(forged)
            upstream, head = await backend.requested()
            assert b"evil.example" not in head
            upstream.send(EMPTY)

    run(main())


@pytest.mark.parametrize("asks", [plain, lambda host, path: request(path).replace(b"example.test", host)])
def test_the_authority_of_an_absolute_target_counts_and_goes_on_in_place_of_the_field(asks, run, tmp_path):
    async def main():
        async with stand(tmp_path, HOSTED) as (gate, backend):
            assert (await refused(gate, asks(b"example.test", b"http://evil.example/ws")))[0] == 421
            await gate.dial(asks(b"evil.example", b"http://user@Example.test:8080/ws?x"))
            upstream, head = await backend.requested()
            assert head.startswith(b"GET /ws?x HTTP/1.1\r\n")
            assert re.findall(rb"(?m)^Host: (.*)\r$", head) == [b"Example.test:8080"]
            assert b"X-Forwarded-Host: Example.test:8080\r\n" in head
            assert b"evil.example" not in head
            upstream.send(EMPTY)

    run(main())


@pytest.mark.parametrize(
    "asked",
    [
        plain(b""),
        plain(b"a", b"/", b"Host: a"),
        plain(b"a", b"/", b"Host: b", version=b"1.0"),
        plain(b" "),
        plain(b"a b"),
        plain(b"user@a"),
        plain(b"a/b"),
        plain(b"a:b"),
        plain(b"\xe9"),
        plain(b"a b", b"http://example.test/"),
        plain(b"example.test", b"http://:80/"),
        plain(b"example.test", b"http:///x"),
        plain(b"example.test", b"http://user@/x"),
        plain(b"", b"http://example.test/"),
        plain(b"", b"/_readygate/livez"),
        request(b"/ws", b"Host: example.test"),
        request().replace(b"example.test", b"a b"),
    ],
)
def test_without_one_valid_host_it_is_no_request(asked, run, tmp_path):
    async def main():
        async with stand(tmp_path, POLICY) as (gate, backend):
            status, told = await refused(gate, asked)
            assert (status, told["title"]) == (400, "Bad Request")
            assert backend.peers == []

    run(main())


def test_http_1_0_needs_no_host(run, tmp_path):
    async def main():
        async with stand(tmp_path, POLICY) as (gate, backend):
            client = await gate.dial(plain(b"", version=b"1.0"))
            upstream, _ = await backend.requested()
            upstream.send(EMPTY)
            assert b" 204 " in await client.head()

    run(main())


# -- what proxies say -------------------------------------------------------------------------------------

CLAIMS = (
    b"X-Forwarded-For: 10.9.9.9",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 443",
    b"X-Real-IP: 10.9.9.9",
    b"Forwarded: for=10.9.9.9;proto=https",
)


def claims_in(head: bytes) -> list[bytes]:
    return [each for each in head.split(b"\r\n") if re.match(rb"(?i)(x[-_])?(forwarded|real)", each)]


@pytest.mark.parametrize("asks", [request, lambda path, *fields: plain(b"example.test", path, *fields)])
@pytest.mark.parametrize("forwarded", ["keep", "replace"])
def test_what_a_client_says_of_proxies_is_replaced_if_there_are_none(forwarded, asks, run, tmp_path):
    async def main():
        async with stand(tmp_path, f"{POLICY}http: {{forwarded: {forwarded}}}\n") as (gate, backend):
            await gate.dial(asks(b"/ws", *CLAIMS))
            upstream, head = await backend.requested()
            if forwarded == "replace":
                assert claims_in(head) == [
                    b"X-Forwarded-For: 127.0.0.1",
                    b"X-Forwarded-Proto: http",
                    b"X-Forwarded-Host: example.test",
                ]
            else:
                assert claims_in(head) == [CLAIMS[0] + b", 127.0.0.1", *CLAIMS[1:]]
            upstream.send(EMPTY)

    run(main())


@pytest.mark.parametrize(("forwarded", "scheme"), [("keep", "https"), ("replace", "http")])
def test_a_span_tells_the_scheme_that_is_believed(forwarded, scheme, run, tmp_path):
    async def main():
        async with stand(tmp_path, f"{POLICY}http: {{forwarded: {forwarded}}}\n") as (gate, backend):
            await opened(gate, backend, b"X-Forwarded-Proto: https")
            (span,) = gate.spans("websocket.handshake")
            assert span.attributes["url.scheme"] == scheme

    run(main())
