"""What may happen while a request waits for the key that its token is checked by."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.policy import load
from tests.backends.issuer import Issuer
from tests.edge.door import kept, stand
from tests.edge.peers import Backend, Peer, Stand, eventually, request

POLICY = """
extends: testing
limits: {{sessions: 1}}
guard:
  jwt:
    sources: [{{from: authorization}}]
    algorithms: [ES256]
    jwks: {{url: "{url}"}}
"""


@pytest.fixture
def issuer():
    with Issuer() as one:
        one.mode = "hang"
        yield one


@contextlib.asynccontextmanager
async def waiting(
    folder: Path, issuer: Issuer, *tokens: str
) -> AsyncIterator[tuple[Stand, Backend, list[Peer]]]:
    """Clients whose tokens wait for the key set."""
    async with stand(folder, POLICY.format(url=issuer.url)) as (gate, backend):
        await asyncio.to_thread(issuer.wait_fetches, 1, 20)
        clients = [
            await gate.dial(request(b"/ws", b"Authorization: Bearer " + token.encode())) for token in tokens
        ]
        await eventually(lambda: gate.gate._generations[-1]._requests == len(clients))
        issuer.mode = "ok"
        yield gate, backend, clients


def test_who_waited_together_does_not_get_past_a_limit(run, tmp_path, issuer):
    async def main():
        async with waiting(tmp_path, issuer, issuer.token(), issuer.token()) as (_, backend, clients):
            issuer.release()
            upstream = await backend.accepted()
            heads = sorted([await client.upgraded() for client in clients])
            assert [head.split()[1] for head in heads] == [b"101", b"503"]
            upstream.close()

    run(main())


def test_a_policy_that_is_taken_meanwhile_does_not_change_how_it_is_checked(run, tmp_path, issuer):
    async def main():
        bad = issuer.key.token("unknown")
        async with waiting(tmp_path, issuer, bad) as (gate, _, (client,)):
            gate.gate.switch(await gate.gate.prepare(load("testing")))
            issuer.release()
            assert b" 401 " in await client.upgraded()

    run(main())


def test_a_gate_that_begins_to_stop_meanwhile_says_so(run, tmp_path, issuer):
    async def main():
        async with waiting(tmp_path, issuer, issuer.token()) as (gate, _, (client,)):
            stopping = asyncio.create_task(gate.gate.stop())
            await eventually(lambda: gate.gate._shared.draining)
            issuer.release()
            assert b" 503 " in await client.upgraded()
            await stopping

    run(main())


def test_who_leaves_meanwhile_leaves_nothing_behind(run, tmp_path, issuer):
    async def main():
        async with waiting(tmp_path, issuer, issuer.token()) as (gate, _, (client,)):
            client.reset()
            await client.gone()
            issuer.release()
            await eventually(lambda: not gate.gate._generations[-1]._requests)
            await gate.gate._shared.idle()
            assert kept(gate) == (0, 0, 0, 0)

    run(main())
