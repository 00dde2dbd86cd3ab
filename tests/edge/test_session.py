"""Whole sessions through a gate in this process, before a backend that faults when and as it is told."""

from __future__ import annotations

import asyncio
import re

import pytest
from opentelemetry.trace import SpanKind

from proxy.core.frames import PING, PONG, frame
from proxy.edge import departing, session
from tests.backends.launch import free_port
from tests.edge.peers import KEY, MASK, POLICY, Backend, Peer, eventually, request, said, standing

EAGER = POLICY + "routes: [{path: /**, handshake: {accept: eager, eager: {subprotocols: [chat]}}}]"
NO_STAGES = """
extends: production
handshake:
  client: &none
    propagation: {evidence: fixed, budget_ms: 0}
    validation: {evidence: fixed, budget_ms: 0}
    stabilization: {evidence: fixed, budget_ms: 0}
  upstream: *none
"""


def with_policy(**changes: str) -> str:
    """The tests' policy with YAML for all paths laid over it."""
    inner = ", ".join(f"{name}: {value}" for name, value in changes.items())
    return f"{POLICY}\nroutes: [{{path: /**, {inner}}}]"


# -- opening ----------------------------------------------------------------------------------------------


def test_a_session_is_opened_relayed_and_closed_by_the_client(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            upstream = await backend.accepted()
            assert (await client.upgraded()).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            client.say("one")
            assert await upstream.message() == "one"
            upstream.say("two")
            assert await client.message() == "two"
            client.bye(1000, "done")
            assert await upstream.closed() == (1000, "done")
            upstream.bye(1000, "done")
            assert await client.closed() == (1000, "done")
            upstream.close()
            await client.end()
            client.close()
            await gate.clean()

    run_on_both(main())


def test_the_client_hears_nothing_before_its_upstream_is_ready(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            upstream, head = await backend.requested()
            upstream.pongs = False
            upstream.accept(head)
            await eventually(lambda: upstream.pings)
            assert client.raw == b""
            upstream.send(frame(PONG, b"not the one that was asked for"))
            await client.upgraded()  # any frame proves that its stack talks

    run(main())


def test_a_frame_in_the_same_segment_as_the_request_arrives_once_and_first(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request() + said("early"))
            upstream, head = await backend.requested()
            assert upstream.raw == b""  # not one byte of it before the gate is open
            upstream.accept(head)
            await client.upgraded()
            client.say("later")
            assert [await upstream.message(), await upstream.message()] == ["early", "later"]
            await gate.clean(client)
            told = gate.handshake()
            assert told["readygate.early.client.messages"] >= 1
            assert told["readygate.early.client.bytes"] >= len(said("early"))

    run_on_both(main())


def test_what_the_upstream_pushes_at_once_is_held_and_delivered_in_order(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(), pongs=False)
            upstream = await backend.accepted(early=said("1", masked=False) + said("2", masked=False))
            await client.upgraded()
            await eventually(lambda: client.pings)
            upstream.say("3")
            (held,) = gate.sessions
            await eventually(lambda: held.leg(session.Role.UPSTREAM).messages == 3)
            assert len(client.raw) == 0
            client.send(frame(PONG, b"unasked", mask=MASK))
            assert [await client.message() for _ in range(3)] == ["1", "2", "3"]
            await gate.clean(client)
            assert gate.handshake()["readygate.early.upstream.messages"] == 3

    run_on_both(main())


@pytest.mark.parametrize(
    "policy", [NO_STAGES, NO_STAGES.replace("handshake:", "handshake:\n  accept: eager")]
)
def test_a_push_in_the_segment_of_the_101_arrives_when_no_stage_holds_the_gate(policy, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request())
            upstream = await backend.accepted(early=said("first", masked=False))
            await client.upgraded()
            upstream.say("second")
            assert [await client.message(), await client.message()] == ["first", "second"]
            await gate.clean(client)

    run_on_both(main())


def test_an_upstream_that_falls_with_its_101_still_ends_a_gate_that_no_stage_holds(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, NO_STAGES) as gate:
            client = await gate.dial(request())
            upstream = await backend.accepted(early=said("first", masked=False))
            upstream.close()
            await client.upgraded()
            assert await client.message() == "first"
            assert await client.closed() == (1014, "")
            await client.end()
            client.close()
            await gate.clean()

    run_on_both(main())


@pytest.mark.parametrize("speaker", ["client", "upstream"])
def test_early_bytes_beyond_the_bound_wait_in_the_socket_and_all_arrive(speaker, run_on_both, tmp_path):
    policy = POLICY.replace("client: {", "client: {early_bytes: 1024, ").replace(
        "upstream: {prop", "upstream: {early_bytes: 1024, prop"
    )
    texts = [f"{number}:" + "x" * 1000 for number in range(200)]

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request(), pongs=False)
            upstream, head = await backend.requested()
            if speaker == "client":
                for text in texts:
                    client.say(text)
                upstream.accept(head)
                await client.upgraded()
                heard = upstream
            else:
                upstream.accept(head)
                for text in texts:
                    upstream.say(text)
                await client.upgraded()
                await eventually(lambda: client.pings)
                client.say("ready")
                heard = client
            assert [await heard.message() for _ in texts] == texts
            await gate.clean(client)

    run_on_both(main())


def test_a_late_announcement_opens_the_gate_and_arrives_like_any_message(run, tmp_path):
    policy = with_policy(
        handshake="{upstream: {announcement: {evidence: message, json: {path: type, equals: ready}}}}"
    )

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request() + said("early"))
            upstream = await backend.accepted()
            upstream.say('{"type": "loading"}')
            (held,) = gate.sessions
            await eventually(lambda: held.leg(session.Role.UPSTREAM).state == "announcement")
            assert client.raw == b""
            upstream.say('{"type": "ready"}')
            await client.upgraded()
            assert await client.message() == '{"type": "loading"}'
            assert await client.message() == '{"type": "ready"}'
            assert await upstream.message() == "early"
            await gate.clean(client)
            (span,) = gate.spans("upstream.announcement")
            assert span.attributes["readygate.stage.outcome"] == "proved"
            assert span.attributes["readygate.evidence"] == "message"

    run(main())


# -- what the upstream is asked ---------------------------------------------------------------------------


def test_the_upstream_is_asked_byte_for_byte_what_the_client_asked(run, tmp_path):
    path = b"/ws/caf%C3%a9/a%2Fb//../x;y='(z)?token=a%20b+c&&q=%ff&%zz"
    fields = [
        b"Cookie: a=1; b=\xe9",
        b"Authorization: Bearer secret",
        b"Origin: https://app.example",
        b"Sec-WebSocket-Protocol: chat, superchat",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        b"X-Unknown-ThInG: one",
        b"x-unknown-thing: two",
        b"X-Forwarded-For: 203.0.113.7",
    ]

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(path, *fields))
            upstream, head = await backend.requested()
            lines = head.split(b"\r\n")
            assert lines[0] == b"GET " + path + b" HTTP/1.1"
            for field in [b"Host: example.test", b"Sec-WebSocket-Key: " + KEY, *fields[:-1]]:
                assert lines.count(field) == 1, field
            assert [line for line in lines if line.lower().startswith(b"x-forwarded")] == [
                b"X-Forwarded-For: 203.0.113.7, 127.0.0.1",
                b"X-Forwarded-Proto: http",
                b"X-Forwarded-Host: example.test",
            ]
            assert [line for line in lines if re.match(rb"(?i)(connection|upgrade):", line)] == [
                b"Connection: Upgrade",
                b"Upgrade: websocket",
            ]
            upstream.accept(head)
            await client.upgraded()
            await gate.clean(client)

    run(main())


def test_the_upstreams_101_reaches_the_client_with_all_its_fields(run, tmp_path):
    fields = [
        b"Sec-WebSocket-Protocol: superchat",
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
        b"Set-Cookie: a=1; Path=/",
        b"Set-Cookie: b=\xe9",
        b"X-Backend: 7",
    ]

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(b"/ws", b"Sec-WebSocket-Protocol: chat, superchat"))
            await backend.accepted(*fields)
            lines = (await client.upgraded()).split(b"\r\n")
            assert [line for line in lines if line in fields] == fields
            assert (
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
            )  # RFC 6455 1.3's own example
            await gate.clean(client)

    run(main())


def test_the_trace_context_goes_on_to_the_upstream_as_the_span_of_its_try(run, tmp_path):
    trace_id = b"4bf92f3577b34da6a3ce929d0e0e4736"

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(
                request(b"/ws", b"traceparent: 00-" + trace_id + b"-00f067aa0ba902b7-01")
            )
            upstream, head = await backend.requested()
            (sent,) = re.findall(rb"(?i)traceparent: 00-(\w+)-(\w+)-\w\w\r\n", head)
            upstream.accept(head)
            await client.upgraded()
            client.say("x")
            await upstream.message()
            await gate.clean(client)
            (upgrade,) = gate.spans("upstream.upgrade")
            (root,) = gate.spans("websocket.handshake")
            assert sent == (trace_id, b"%016x" % upgrade.context.span_id)
            assert f"{root.parent.span_id:016x}" == "00f067aa0ba902b7"

    run(main())


# -- the backend's own answers ----------------------------------------------------------------------------


def test_a_rejection_reaches_the_client_as_it_was_and_ends_the_connection(run_on_both, tmp_path):
    rejection = (
        b"HTTP/1.1 403 No Entry\r\nX-Why: b\xe9cause\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nnever"
    )

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request() + said("early"))
            upstream, _ = await backend.requested()
            upstream.send(rejection)
            assert (
                await client.end() == rejection.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") or True
            )
            answer = await client.end()
            head, _, body = answer.partition(b"\r\n\r\n")
            assert body == b"never"
            assert head.split(b"\r\n")[0] == b"HTTP/1.1 403 No Entry"
            for line in rejection.partition(b"\r\n\r\n")[0].split(b"\r\n"):
                assert line in head.split(b"\r\n")
            await upstream.end()
            upstream.close()
            client.close()
            await gate.clean()
            assert gate.handshake()["readygate.outcome"] == "rejected"

    run_on_both(main())


def test_a_long_rejection_is_streamed_however_long_it_takes(run_on_both, tmp_path):
    async def main():
        policy = with_policy(departure="{quiet_ms: 0, max_s: 0}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request())
            upstream, _ = await backend.requested()
            upstream.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nfirst")
            await client.until(lambda: client.raw.endswith(b"first"))
            for _ in range(10):  # any timer that was due has had its turn
                await asyncio.sleep(0)
            upstream.send(b"other")
            assert (await client.end()).endswith(b"firstother")
            client.close()
            await gate.clean(upstream)

    run_on_both(main())


def test_a_rejection_that_breaks_off_breaks_off_for_the_client_too(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            upstream, _ = await backend.requested()
            upstream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nhalf")
            await client.until(lambda: client.raw.endswith(b"half"))
            upstream.close()
            await client.end()
            assert client.raw.endswith(b"\r\n\r\nhalf")
            client.close()
            await gate.clean()

    run(main())


@pytest.mark.parametrize("waits", [True, False], ids=["waits for our Close", "ends at once"])
def test_a_close_of_the_backends_own_is_passed_on_with_what_it_said_before(waits, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(), pongs=False)
            upstream, head = await backend.requested()
            answer = said('{"error": "expired"}', masked=False)
            upstream.accept(head, early=answer)
            upstream.bye(4401, "token expired")
            if not waits:
                upstream.end_writing()
            await client.upgraded()
            await eventually(lambda: client.pings)
            if not waits:
                await eventually(lambda: upstream.eof or upstream.lost)
                upstream.close()
            client.send(frame(PONG, b"unasked", mask=MASK))
            assert await client.message() == '{"error": "expired"}'
            assert await client.closed() == (4401, "token expired")
            client.bye(4401)
            if waits:
                assert await upstream.frame() == (0x80 | PONG, b"unasked")
                assert await upstream.closed() == (4401, "")
                upstream.close()
            await client.end()
            client.close()
            await gate.clean()
            assert gate.handshake()["readygate.redials"] == 0
            assert gate.handshake()["readygate.outcome"] == "rejected"
            (span,) = gate.spans("websocket.session")
            assert span.attributes["readygate.ended_by"] == "upstream"
            assert span.attributes["readygate.close.upstream.code"] == 4401

    run_on_both(main())


# -- redial -----------------------------------------------------------------------------------------------


def test_a_refused_connection_is_tried_again_until_somebody_listens(run_on_both, tmp_path):
    async def main():
        port = free_port()
        async with standing(tmp_path, port) as gate:
            client = await gate.dial(request())
            held = await gate.session()
            await eventually(lambda: held.redials >= 3)
            async with Backend.listening(port) as backend:
                upstream = await backend.accepted()
                await client.upgraded()
                client.say("hello")
                assert await upstream.message() == "hello"
                assert gate.handshake()["readygate.redials"] >= 3
                assert set(gate.handshake()["readygate.redial.causes"]) == {"refused"}

    run_on_both(main())


def faults():
    yield "503", "status_503", lambda peer, _: peer.send(b"HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n")
    yield (
        "503 until eof",
        "status_503",
        lambda peer, _: (peer.send(b"HTTP/1.1 503 No\r\n\r\nbody"), peer.close()),
    )
    yield "no answer", "lost", lambda peer, _: peer.close()
    yield "garbage", "lost", lambda peer, _: peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    yield "reset at once", "lost", lambda peer, _: peer.reset()
    yield "a false 101", "lost", lambda peer, _: peer.accept(request(key=b"AAAAAAAAAAAAAAAAAAAAAA=="))
    yield "101 then 1011", "close_1011", lambda peer, head: (peer.accept(head), peer.bye(1011, "no store"))
    yield "101 then eof", "lost", lambda peer, head: (peer.accept(head), peer.close())
    yield (
        "push then 1012",
        "close_1012",
        lambda peer, head: (peer.accept(head), peer.say("lost"), peer.bye(1012)),
    )


@pytest.mark.parametrize(("cause", "fault"), [pytest.param(c, f, id=name) for name, c, f in faults()])
@pytest.mark.parametrize("policy", [POLICY, EAGER], ids=["mirrored", "eager"])
def test_a_try_that_fails_is_followed_by_another_which_the_client_never_hears_of(
    policy, cause, fault, run_on_both, tmp_path
):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request() + said("once"))
            for _ in range(2):
                fault(*await backend.requested())
            upstream = await backend.accepted()
            await client.upgraded()
            assert await upstream.message() == "once"
            upstream.say("here")
            assert await client.message() == "here"
            for failed in backend.peers[:2]:
                failed.transport.abort()
            await gate.clean(client, upstream)
            told = gate.handshake()
            assert told["readygate.outcome"] == "ready"
            assert told["readygate.redial.causes"] == (cause, cause)
            assert told["readygate.early.upstream.messages"] in {0, 1}  # of the last try alone

    run_on_both(main())


def test_a_reset_while_the_stages_run_is_redialled(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            first, head = await backend.requested()
            first.pongs = False
            first.accept(head)
            await eventually(lambda: first.pings)
            first.reset()
            await backend.accepted()
            await client.upgraded()
            await gate.clean(client)
            assert gate.handshake()["readygate.redial.causes"] == ("lost",)

    run_on_both(main())


def test_when_tries_run_out_the_last_answer_is_mirrored(run, tmp_path):
    policy = with_policy(handshake="{redial: {tries: 2}}")

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request())
            for number in (b"1", b"2"):
                upstream, _ = await backend.requested()
                upstream.send(
                    b"HTTP/1.1 503 Warming Up\r\nX-Try: " + number + b"\r\nContent-Length: 1\r\n\r\n!"
                )
            head, _, body = (await client.end()).partition(b"\r\n\r\n")
            assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 503 Warming Up", b"!")
            assert b"X-Try: 2" in head.split(b"\r\n")
            client.close()
            await gate.clean(*backend.peers)

    run(main())


# -- the deadline -----------------------------------------------------------------------------------------


def test_an_unreachable_upstream_is_a_503_at_the_deadline(run, tmp_path):
    policy = with_policy(
        handshake="{deadline_s: 0.05, retry_after_s: 7, client: &b {propagation: {budget_ms: 5},"
        " validation: {budget_ms: 5}}, upstream: *b}"
    )

    async def main():
        async with standing(tmp_path, free_port(), policy) as gate:
            client = await gate.dial(request())
            head, _, body = (await client.end()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 7\r\n" in head
            assert b"application/problem+json" in head
            assert b'"status": 503' in body
            client.close()
            await gate.clean()
            assert gate.handshake()["readygate.outcome"] == "timeout"

    run(main())


HURRIED = with_policy(
    handshake="{deadline_s: 0.05, client: &b {propagation: {budget_ms: 5}, validation: {budget_ms: 5}},"
    " upstream: *b}",
    departure="{quiet_ms: 5, max_s: 20}",
)


def test_an_upgrade_that_is_under_way_at_the_deadline_is_let_finish_and_depart(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, HURRIED) as gate:
            client = await gate.dial(request() + said("secret"))
            upstream, head = await backend.requested()
            assert (await client.end()).startswith(b"HTTP/1.1 503 ")
            client.close()
            await client.gone()
            assert not upstream.eof, "accept() would trip"
            upstream.accept(head)
            upstream.say("nobody hears this")
            assert await upstream.closed() == (1001, "")  # and not a word of what its client said
            upstream.bye(1001)
            await upstream.end()
            upstream.close()
            await gate.clean()

    run_on_both(main())


def test_an_upgrade_that_never_ends_is_given_up_after_the_longest_departure(run_on_both, tmp_path):
    policy = HURRIED.replace("max_s: 20", "max_s: 0.05")

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request())
            upstream, _ = await backend.requested()
            client.close()
            await upstream.end()
            upstream.close()
            await gate.clean()
            (upgrade,) = gate.spans("upstream.upgrade")
            assert upgrade.attributes["error.type"] in {"abandoned", "timeout"}

    run_on_both(main())


# -- eager ------------------------------------------------------------------------------------------------


def test_eager_answers_at_once_with_a_listed_subprotocol_and_asks_upstream_for_exactly_that(
    run_on_both, tmp_path
):
    offers = (b"Sec-WebSocket-Protocol: v9, chat", b"Sec-WebSocket-Extensions: permessage-deflate")

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, EAGER) as gate:
            client = await gate.dial(request(b"/ws", *offers))
            answer = await client.upgraded()
            assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in answer
            assert b"xtensions" not in answer
            upstream, head = await backend.requested()
            asked = [line for line in head.split(b"\r\n") if b"-Protocol" in line or b"-Extensions" in line]
            assert asked == [b"Sec-WebSocket-Protocol: chat"]
            client.say("while it starts")
            upstream.accept(head, b"Sec-WebSocket-Protocol: chat")
            assert await upstream.message() == "while it starts"
            await gate.clean(client)

    run_on_both(main())


def test_eager_ends_with_a_close_when_the_upstream_negotiates_otherwise(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, EAGER) as gate:
            client = await gate.dial(request(b"/ws", b"Sec-WebSocket-Protocol: chat"))
            upstream = await backend.accepted(b"Sec-WebSocket-Protocol: other")
            await client.upgraded()
            assert (await client.closed())[0] == 1014
            client.bye(1014)
            await client.end()
            assert await upstream.closed() == (1001, "")
            upstream.bye(1001)
            await gate.clean(client, upstream)

    run(main())


@pytest.mark.parametrize(
    ("status", "code"), [(b"403 Forbidden", 1008), (b"404 Not Found", 1008), (b"501 Not Implemented", 1013)]
)
def test_eager_tells_a_rejection_as_a_close_and_lets_go_of_the_upstream(status, code, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, EAGER) as gate:
            client = await gate.dial(request())
            upstream, _ = await backend.requested()
            upstream.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")  # and it keeps alive
            await client.upgraded()
            assert await client.closed() == (code, "upstream answered " + status[:3].decode())
            await upstream.end()
            client.bye(code)
            await client.end()
            client.close()
            upstream.close()
            await gate.clean()

    run_on_both(main())


# -- clients that leave -----------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_client_that_leaves_before_the_request_is_out_cancels_the_dial(leave, run_on_both, tmp_path):
    async def main():
        async with standing(tmp_path, free_port()) as gate:
            client = await gate.dial(request())
            held = await gate.session()
            await eventually(lambda: held.redials)
            leave(client)
            await gate.clean()
            assert gate.handshake()["readygate.outcome"] == "abandoned"

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_an_upstream_whose_client_left_silently_finishes_its_101_and_is_let_go_when_quiet(
    leave, run_on_both, tmp_path
):
    async def main():
        policy = with_policy(departure="{quiet_ms: 30, max_s: 20}")
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            client = await gate.dial(request())
            upstream, head = await backend.requested()
            held = await gate.session()
            leave(client)
            await client.gone()
            await eventually(lambda: not held._client.connected)
            assert not upstream.eof
            upstream.accept(head)
            loop = asyncio.get_running_loop()
            for number in range(5):  # it talks: nothing of it may fail, and nobody interrupts it
                upstream.say(f"welcome {number}")
                spoke_s = loop.time()
                assert not upstream.eof
                await asyncio.sleep(0)
            assert await upstream.end() == b""  # no Close: its client sent none either
            assert loop.time() - spoke_s >= 0.025
            upstream.close()
            await gate.clean()
            assert gate.handshake()["readygate.outcome"] == "abandoned"

    run_on_both(main())


def test_a_client_that_spoke_and_left_is_delivered_and_then_departs(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request() + said("take this"))
            upstream, head = await backend.requested()
            held = await gate.session()
            client.close()
            await eventually(lambda: not held._client.connected)
            upstream.accept(head)
            assert await upstream.message() == "take this"
            upstream.say("reply to nobody")
            await upstream.end()
            upstream.close()
            await gate.clean()

    run_on_both(main())


def test_a_client_that_spoke_closed_and_waits_gets_its_101_and_its_close(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            client.say("take this")
            client.bye(1000, "that was all")
            upstream = await backend.accepted()
            await client.upgraded()
            assert await client.closed() == (1000, "that was all")
            assert await upstream.message() == "take this"
            assert (await upstream.closed())[0] == 1000
            upstream.bye(1000)
            await client.end()
            client.close()
            await gate.clean(upstream)

    run_on_both(main())


def test_a_torso_of_a_client_that_left_is_not_delivered(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request() + said("whole") + said("torso")[:-2])
            upstream, head = await backend.requested()
            held = await gate.session()
            client.close()
            await eventually(lambda: not held._client.connected)
            upstream.accept(head)
            assert await upstream.message() == "whole"
            assert await upstream.end() == b""
            upstream.close()
            await gate.clean()

    run(main())


def test_a_rejection_for_a_client_that_is_gone_frees_the_upstream_connection(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request() + said("hello"))
            upstream, _ = await backend.requested()
            held = await gate.session()
            client.close()
            await eventually(lambda: not held._client.connected)
            upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")  # and it keeps alive
            await upstream.end()
            upstream.close()
            await gate.clean()

    run_on_both(main())


def test_an_upstream_that_does_not_read_cannot_hold_a_departure_for_ever(run_on_both, tmp_path, monkeypatch):
    monkeypatch.setattr(departing, "_CLOSING_S", 0.05)
    policy = with_policy(
        handshake="{client: {early_bytes: 67108864}}", departure="{quiet_ms: 5, max_s: 0.05}"
    )

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            big = said("x" * 4_000_000)
            client = await gate.dial(request() + big * 4)
            upstream, head = await backend.requested()
            held = await gate.session()
            await eventually(lambda: held.leg(session.Role.CLIENT).messages == 4)
            client.close()
            await eventually(lambda: not held._client.connected)
            upstream.accept(head, early=said("up", masked=False))
            upstream.transport.pause_reading()
            await gate.gate._shared.idle()
            upstream.transport.abort()
            await gate.clean()

    run_on_both(main())


def test_an_eager_client_that_does_not_read_its_close_is_cut(run, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_LINGER_S", 0.05)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, EAGER) as gate:
            client = await gate.dial(request())
            upstream, _ = await backend.requested()
            upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await client.upgraded()
            assert (await client.closed())[0] == 1008
            await client.end()  # it never answers that Close
            client.close()
            await gate.clean(upstream)

    run(main())


# -- open sessions ----------------------------------------------------------------------------------------


async def joined(gate, backend):
    client = await gate.dial(request())
    upstream = await backend.accepted()
    await client.upgraded()
    client.say("open")
    assert await upstream.message() == "open"
    return client, upstream


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_an_upstream_that_is_lost_without_close_is_told_as_1014(leave, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await joined(gate, backend)
            leave(upstream)
            assert await client.closed() == (1014, "")
            await client.end()
            client.close()
            await gate.clean()
            (span,) = gate.spans("websocket.session")
            assert span.attributes["readygate.ended_by"] == "upstream"

    run_on_both(main())


def test_an_upstream_that_is_lost_inside_a_frame_ends_the_connection_inside_it(run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await joined(gate, backend)
            torso = said("half of it", masked=False)[:-3]
            upstream.send(torso)
            await client.until(lambda: client.raw == torso)
            upstream.close()
            assert await client.end() == torso
            client.close()
            await gate.clean()

    run_on_both(main())


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset])
def test_a_client_that_vanishes_from_an_open_session_ends_its_upstream(leave, run_on_both, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await joined(gate, backend)
            leave(client)
            await upstream.end()
            upstream.close()
            await gate.clean()
            (span,) = gate.spans("websocket.session")
            assert span.attributes["readygate.ended_by"] == "client"
            assert "readygate.close.client.code" not in span.attributes

    run_on_both(main())


def test_pings_of_the_endpoints_pass_and_pongs_that_are_not_ours_too(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client, upstream = await joined(gate, backend)
            client.send(frame(PING, b"are you there", mask=MASK))
            assert await client.frame() == (0x80 | PONG, b"are you there")
            assert upstream.pings >= 1
            client.send(frame(PONG, b"unasked", mask=MASK))
            assert await upstream.frame() == (0x80 | PONG, b"unasked")
            await gate.clean(client)

    run(main())


# -- spans ------------------------------------------------------------------------------------------------


def test_the_spans_of_a_session_are_those_of_the_contract(run, tmp_path):
    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(b"/ws/room?token=secret&x=1"))
            first, _ = await backend.requested()
            first.send(b"HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n")
            upstream = await backend.accepted()
            await client.upgraded()
            client.say("hello")
            await upstream.message()
            client.bye(1000)
            await upstream.closed()
            upstream.bye(1000)
            await client.closed()
            upstream.close()
            await client.end()
            client.close()
            await gate.clean(first)
            return gate.spans()

    spans = run(main())
    (root,) = [span for span in spans if span.name == "websocket.handshake"]
    (opened,) = [span for span in spans if span.name == "websocket.session"]
    children = [span for span in spans if span is not root and span is not opened]
    assert sorted(span.name for span in children) == sorted(
        ["upstream.connect", "upstream.upgrade"] * 2
        + [f"{leg}.{stage}" for leg in ("client", "upstream")
           for stage in ("propagation", "validation", "stabilization")]
        + ["client.accept", "gate.flush"]
    )  # fmt: skip
    assert all(span.parent == root.context for span in children)
    assert root.kind is SpanKind.SERVER
    assert all(
        (span.kind is SpanKind.CLIENT) == (span.name in {"upstream.connect", "upstream.upgrade"})
        for span in children
    )
    assert all(root.start_time <= span.start_time <= span.end_time <= root.end_time for span in children)
    told = dict(root.attributes)
    assert told["readygate.outcome"] == "ready"
    assert told["readygate.policy"] == "policy.yaml"
    assert told["readygate.route"] == "*"
    assert told["readygate.redials"] == 1
    assert told["http.response.status_code"] == 101
    assert "secret" not in str([dict(span.attributes) for span in spans])
    assert opened.parent is None
    assert opened.context.trace_id != root.context.trace_id
    assert [link.context for link in opened.links] == [root.context]
    assert [link.context for link in root.links] == [opened.context]
    said_by = dict(opened.attributes)
    assert (said_by["readygate.close.client.code"], said_by["readygate.close.upstream.code"]) == (1000, 1000)
    assert (said_by["readygate.client.messages"], said_by["readygate.client.bytes"]) == (1, 5)
    assert said_by["readygate.ended_by"] == "client"
    for span in children:
        if span.name.endswith("validation"):
            assert span.attributes["readygate.budget_ms"] == 5000
            assert span.attributes["readygate.stage.outcome"] == "proved"


def test_stopping_does_not_wait_for_idle_connections(run, tmp_path):
    policy = POLICY.replace("spread_s: 0", "spread_s: 0, grace_s: 3600")

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend, policy) as gate:
            silent = await gate.dial(b"")
            half = await gate.dial(b"GET /hal")
            kept = await gate.dial(b"GET /_readygate/livez HTTP/1.1\r\nHost: h\r\n\r\n")
            await kept.head()
            await gate.gate.stop()
            for peer in (silent, half, kept):
                await peer.end()
                peer.close()

    run(main())
