"""A client that is accepted only to be told why it may not stay."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.edge import farewell
from proxy.edge.farewell import agreeable
from tests.edge.door import kept, stand
from tests.edge.peers import Peer, Stand, bye, request

POLICY = """
guard:
  jwt:
    sources: [{from: query, name: token}]
    algorithms: [ES256]
    jwks: {url: "http://127.0.0.1:1/"}
    on_failure: close
"""


@contextlib.asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[Stand]:
    async with stand(folder, POLICY) as (gate, _):
        yield gate


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ([], None),
        (["chat"], "chat"),
        (["chat", "jwt-auth"], "jwt-auth"),
        (["jwt.abc"], None),
        (["bearer.abc", "jwt.abc", "mqtt", "chat"], "mqtt"),
        (["jwt-auth", "jwt.abc"], "jwt-auth"),
        (["bad name", "caf\xe9"], None),
    ],
)
def test_it_agrees_to_a_subprotocol_that_is_no_token(offered, agreed):
    assert agreeable(offered, ("jwt.", "bearer.")) == agreed


async def told(client: Peer) -> None:
    await client.upgraded()
    assert '"code":"unauthorized"' in await client.message()
    assert await client.closed() == (4401, "a token is required")


def test_who_answers_the_close_is_let_go_at_once_and_nothing_is_kept(run, tmp_path):
    async def main():
        async with gate(tmp_path) as door:
            client = await door.dial(request(b"/ws"))
            await told(client)
            client.say("but I am early")
            client.bye(4401)
            await client.end()
            assert kept(door) == (0, 0, 0, 0)

    run(main())


def test_what_came_with_the_request_may_be_the_answer_already(run, tmp_path):
    async def main():
        async with gate(tmp_path) as door:
            client = await door.dial(request(b"/ws") + bye(1000))
            await told(client)
            await client.end()

    run(main())


def test_who_does_not_answer_the_close_is_cut(run, tmp_path, monkeypatch):
    monkeypatch.setattr(farewell, "_ANSWER_S", 0.05)

    async def main():
        async with gate(tmp_path) as door:
            client = await door.dial(request(b"/ws"))
            await told(client)
            await client.end()

    run(main())


@pytest.mark.parametrize("leaves", [Peer.reset, Peer.close, Peer.end_writing])
def test_who_leaves_meanwhile_is_no_error(run, tmp_path, caplog, leaves):
    async def main():
        async with gate(tmp_path) as door:
            client = await door.dial(request(b"/ws"))
            await client.upgraded()
            leaves(client)
            await client.end() if leaves is Peer.end_writing else await client.gone()
            again = await door.dial(request(b"/ws"))
            await told(again)
            again.close()

    run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
