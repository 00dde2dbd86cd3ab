"""However a session ends, its place is free again: nothing of it is counted any more."""

from __future__ import annotations

import pytest

from proxy.edge.session import Session
from proxy.telemetry.session_trace import SessionTrace
from tests.edge.door import kept, opened, stand
from tests.edge.peers import POLICY, Backend, Stand, eventually, request, said

SHORT = "extends: testing\nhandshake: {deadline_s: 0.05}\n"


async def client_closes(gate: Stand, backend: Backend) -> None:
    client, upstream = await opened(gate, backend)
    client.bye(1000)
    await upstream.closed()
    upstream.bye(1000)
    upstream.close()


async def client_resets(gate: Stand, backend: Backend) -> None:
    client, upstream = await opened(gate, backend)
    client.reset()
    await upstream.end()


async def upstream_is_lost(gate: Stand, backend: Backend) -> None:
    client, upstream = await opened(gate, backend)
    upstream.reset()
    assert await client.closed() == (1014, "")
    client.close()


async def upstream_rejects(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request() + said("early"))
    upstream, _ = await backend.requested()
    upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (await client.end()).startswith(b"HTTP/1.1 403")


async def upstream_rejects_with_a_long_body(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request() + said("early"))
    upstream, _ = await backend.requested()
    upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 200000\r\n\r\n", bytes(100_000))
    await client.head()
    upstream.reset()  # in mid-body
    await client.end()


async def deadline(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request() + said("early"))
    upstream, _ = await backend.requested()
    assert (await client.end()).startswith(b"HTTP/1.1 503")
    upstream.close()


async def client_leaves_before_the_upstream_is_asked(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request())
    client.reset()
    await client.gone()


async def client_leaves_before_the_101(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request())
    upstream, head = await backend.requested()
    client.reset()
    await client.gone()
    upstream.accept(head, early=said("hello?", masked=False))
    await upstream.end()


async def client_sends_and_leaves(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request() + said("take this"))
    upstream, head = await backend.requested()
    client.reset()
    await client.gone()
    upstream.accept(head)
    assert await upstream.message() == "take this"
    await upstream.end()


async def drained(gate: Stand, backend: Backend) -> None:
    client, upstream = await opened(gate, backend)
    gate.gate._spread_drain()
    assert (await client.closed())[0] == 1012
    client.bye(1012)
    assert (await upstream.closed())[0] == 1001
    upstream.bye(1001)


async def drained_while_pending(gate: Stand, backend: Backend) -> None:
    client = await gate.dial(request() + said("early"))
    upstream, _ = await backend.requested()
    gate.gate._spread_drain()
    assert (await client.end()).startswith(b"HTTP/1.1 503")
    upstream.close()


@pytest.mark.parametrize(
    "way_out",
    [
        client_closes,
        client_resets,
        upstream_is_lost,
        upstream_rejects,
        upstream_rejects_with_a_long_body,
        deadline,
        client_leaves_before_the_upstream_is_asked,
        client_leaves_before_the_101,
        client_sends_and_leaves,
        drained,
        drained_while_pending,
    ],
    ids=lambda way_out: way_out.__name__,
)
def test_every_way_out_gives_the_place_back(way_out, run, tmp_path):
    async def main():
        policy = SHORT if way_out is deadline else POLICY
        async with stand(tmp_path, policy) as (gate, backend):
            await way_out(gate, backend)
            await eventually(lambda: kept(gate) == (0, 0, 0, 0))
            assert gate.gate._telemetry.metrics.pending == 0

    run(main())


@pytest.mark.parametrize("where", ["_accept_client", "_open_gate", "_join", "_depart_upstream"])
def test_a_bug_of_ours_gives_the_place_back_too(where, run, tmp_path, monkeypatch, caplog):
    def broken(self, *args):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(Session, where, broken)

    async def main():
        async with stand(tmp_path, POLICY) as (gate, backend):
            client = await gate.dial(request() + (b"" if where == "_depart_upstream" else said("early")))
            upstream, head = await backend.requested()
            if where == "_depart_upstream":
                client.reset()
                await client.gone()
            upstream.accept(head)
            if where in {"_open_gate", "_join"}:
                await client.upgraded()  # and answers the ping
            await client.end()
            client.close()
            await eventually(lambda: kept(gate) == (0, 0, 0, 0))
            assert any("failed" in each.getMessage() for each in caplog.records if each.exc_info)
            caplog.clear()

    run(main())


def test_a_bug_in_what_is_told_of_a_session_gives_the_place_back_too(run, tmp_path, monkeypatch, caplog):
    def broken(self, *args):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(SessionTrace, "finish", broken)

    async def main():
        async with stand(tmp_path, POLICY) as (gate, backend):
            client, upstream = await opened(gate, backend)
            upstream.reset()
            await client.end()
            client.close()
            await eventually(lambda: kept(gate) == (0, 0, 0, 0))

    run(main())
    assert "a bug of ours" in caplog.text
    caplog.clear()
