"""Limits of the process at the door: who is turned away with what answer, and when there is room again."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from proxy.core.plan import Role
from proxy.policy import load
from tests.edge.door import kept, opened, stand
from tests.edge.peers import POLICY, Stand, eventually, request, said

PLAIN = b"GET /plain HTTP/1.1\r\nHost: example.test\r\n\r\n"


def limited(http: str = "{}", **limits: int) -> str:
    told = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return f"{POLICY}limits: {{{told}}}\nhttp: {http}\n"


def forwarded(*entries: str) -> bytes:
    return b"X-Forwarded-For: " + ", ".join(entries).encode()


async def refused(gate: Stand, *fields: bytes, first: bytes = b"") -> tuple[int, bytes, dict[str, object]]:
    """Status, head and problem document of the answer to one more upgrade; the gate closes behind it."""
    client = await gate.dial(first or request(b"/refused", *fields))
    head, _, body = (await client.end()).partition(b"\r\n\r\n")
    client.close()
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    return int(head.split()[1]), head, json.loads(body)


def told_of(gate: Stand, path: str) -> list[ReadableSpan]:
    """The handshakes' spans of this path."""
    return [each for each in gate.spans("websocket.handshake") if each.attributes["url.path"] == path]


# -- each limit -------------------------------------------------------------------------------------------


def test_beyond_the_sessions_limit_a_client_gets_a_503_until_one_has_gone(run, tmp_path, caplog):
    async def main():
        async with stand(tmp_path, limited(sessions=2)) as (gate, backend):
            first, _ = await opened(gate, backend)
            await opened(gate, backend)
            status, head, told = await refused(gate)
            assert (status, told["detail"]) == (503, "too many sessions")
            assert b"\r\nRetry-After: 1\r\n" in head
            first.reset()
            await eventually(lambda: len(gate.sessions) == 1)
            await opened(gate, backend)
            assert len(backend.peers) == 3  # of the refused one it never heard

            (span,) = told_of(gate, "/refused")
            assert span.attributes["readygate.outcome"] == "rejected"
            assert span.attributes["readygate.limit"] == "sessions"
            assert span.attributes["http.response.status_code"] == 503
            assert span.status.status_code is StatusCode.ERROR
            metrics = gate.gate.metrics_text()
            assert 'readygate_limits_hit_total{limit="sessions"} 1' in metrics
            assert "readygate_handshakes_pending 0" in metrics

    run(main())
    (line,) = [each for each in caplog.records if each.getMessage() == "limit reached"]
    assert line.fields == {"limit": "sessions", "status": 503, "refused": 1}


def test_an_upgrade_waits_for_nobody_once_the_handshakes_before_it_are_over(run, tmp_path):
    async def main():
        async with stand(tmp_path, limited(handshakes_pending=1)) as (gate, backend):
            await opened(gate, backend)
            client = await gate.dial(request())
            upstream, head = await backend.requested()
            status, _, told = await refused(gate)
            assert (status, told["detail"]) == (503, "too many handshakes under way")
            upstream.accept(head)
            await client.upgraded()
            await eventually(lambda: kept(gate)[:2] == (2, 0))
            await opened(gate, backend)

    run(main())


@pytest.mark.parametrize("role", Role)
def test_while_too_much_is_held_new_ones_are_refused_and_those_before_are_served(role, run, tmp_path):
    pushed = "x" * 2000

    async def main():
        async with stand(tmp_path, limited(early_bytes_total=1024)) as (gate, backend):
            client = await gate.dial(request(), pongs=False)
            upstream, head = await backend.requested()
            if role is Role.CLIENT:
                client.say(pushed)
            else:
                upstream.accept(head, early=said(pushed, masked=False))
            await eventually(lambda: kept(gate)[3] > 2000)
            assert f"readygate_early_bytes {kept(gate)[3]}" in gate.gate.metrics_text()
            status, _, told = await refused(gate)
            assert (status, told["detail"]) == (503, "too many early bytes are held")
            if role is Role.CLIENT:
                upstream.accept(head)
            await client.upgraded()
            client.say("proves that it listens")
            if role is Role.CLIENT:
                assert await upstream.message() == pushed
            else:
                assert await client.message() == pushed
            assert await upstream.message() == "proves that it listens"
            assert kept(gate)[3] == 0
            await opened(gate, backend)

    run(main())


def test_what_a_failed_try_said_is_held_no_more(run, tmp_path):
    async def main():
        async with stand(tmp_path, POLICY) as (gate, backend):
            await gate.dial(request(), pongs=False)
            upstream = await backend.accepted(early=said("x" * 500, masked=False))
            await eventually(lambda: kept(gate)[3] > 500)
            upstream.reset()
            again, head = await backend.requested()
            assert kept(gate)[3] == 0
            again.accept(head)

    run(main())


def test_a_client_may_have_so_many_sessions_whatever_it_says_of_itself(run, tmp_path):
    async def main():
        async with stand(tmp_path, limited(sessions_per_client=1)) as (gate, backend):
            first, _ = await opened(gate, backend)
            status, head, told = await refused(gate, forwarded("203.0.113.9"))
            assert (status, told["detail"]) == (429, "too many sessions of this client")
            assert b"\r\nRetry-After: 1\r\n" in head
            first.reset()
            await eventually(lambda: not gate.sessions)
            await opened(gate, backend)
            (span,) = told_of(gate, "/refused")
            assert span.attributes["client.address"] == "127.0.0.1"
            assert span.status.status_code is StatusCode.UNSET  # a client's doing, no error of ours
            assert "error.type" not in span.attributes

    run(main())


def test_clients_behind_a_trusted_hop_are_told_apart(run, tmp_path):
    async def main():
        policy = limited("{trusted_hops: 1}", sessions_per_client=1)
        async with stand(tmp_path, policy) as (gate, backend):
            await opened(gate, backend, forwarded("203.0.113.1"))
            await opened(gate, backend, forwarded("203.0.113.1", "203.0.113.2"))
            status, _, _ = await refused(gate, forwarded("8.8.8.8"), forwarded("203.0.113.1"))
            assert status == 429
            assert {each.client_address for each in gate.gate.sessions()} == {"203.0.113.1", "203.0.113.2"}
            told = [each.attributes for each in gate.spans("websocket.handshake")]
            assert [each["client.address"] for each in told] == ["203.0.113.1", "203.0.113.2", "203.0.113.1"]
            assert {each["network.peer.address"] for each in told} == {"127.0.0.1"}

    run(main())


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(
    "ask", [request(b"/ws", b"X-Pad: "), PLAIN[:-2] + b"X-Pad: \r\n\r\n"], ids=["upgrade", "http"]
)
def test_a_head_may_have_so_many_bytes_and_not_one_more(ask, over, run, tmp_path, caplog):
    pad = b"p" * (2048 + over - len(ask))
    asked = ask.replace(b"X-Pad: ", b"X-Pad: " + pad)

    async def main():
        async with stand(tmp_path, limited(header_bytes=2048)) as (gate, backend):
            if over:
                status, head, told = await refused(gate, first=asked)
                assert (status, told["detail"]) == (431, "the request head is too long")
                assert b"Retry-After" not in head
                assert backend.peers == []
                assert 'readygate_limits_hit_total{limit="header_bytes"} 1' in gate.gate.metrics_text()
                assert [each.attributes["readygate.limit"] for each in gate.spans()] == (
                    ["header_bytes"] if b"Upgrade" in ask else []
                )
            else:
                await gate.dial(asked)
                upstream, head = await backend.requested()
                assert pad in head
                upstream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    run(main())
    assert len([each for each in caplog.records if each.getMessage() == "limit reached"]) == over


def test_a_gate_that_stops_says_so_before_it_speaks_of_limits(run, tmp_path):
    async def main():
        async with stand(tmp_path, limited(header_bytes=1024)) as (gate, _):
            gate.gate._shared.draining = True
            status, _, told = await refused(gate, b"X-Pad: " + b"p" * 2000)
            assert (status, told["detail"]) == (503, "the gate is stopping")

    run(main())


def test_a_flood_of_refusals_leaves_one_line_but_a_count_and_a_span_of_each(run, tmp_path, caplog):
    async def main():
        async with stand(tmp_path, limited(sessions=1)) as (gate, backend):
            await opened(gate, backend)
            for _ in range(20):
                await refused(gate)
            assert 'readygate_limits_hit_total{limit="sessions"} 20' in gate.gate.metrics_text()
            assert len(gate.spans("websocket.handshake")) == 21

    run(main())
    assert len([each for each in caplog.records if each.getMessage() == "limit reached"]) == 1


def test_a_policy_that_is_switched_counts_from_the_next_upgrade_on(run, tmp_path):
    async def main():
        async with stand(tmp_path, limited(sessions=1)) as (gate, backend):
            await opened(gate, backend)
            assert (await refused(gate))[0] == 503
            other = tmp_path / "other.yaml"
            other.write_text(limited(sessions=2))
            gate.gate._shared.policy = load(str(other))
            await opened(gate, backend)
            assert (await refused(gate))[0] == 503

    run(main())
