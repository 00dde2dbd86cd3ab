"""A bug of ours in one session is logged and counted; that session ends, and no other notices."""

from __future__ import annotations

from proxy.edge.session import Session
from proxy.edge.switching import Offer
from tests.edge.peers import Backend, eventually, request, said, standing


def test_a_bug_in_one_session_ends_that_session_only(run, tmp_path, monkeypatch, caplog):
    healthy = Session._open_gate

    def broken_for_one(self):
        if self.path == "/broken":
            raise RuntimeError("a bug of ours")
        healthy(self)

    monkeypatch.setattr(Session, "_open_gate", broken_for_one)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request(b"/healthy"))
            upstream, head = await backend.requested()
            upstream.accept(head)
            await client.upgraded()
            client.say("still here")
            assert await upstream.message() == "still here"

            victim = await gate.dial(request(b"/broken"))
            behind, head = await backend.requested()
            behind.accept(head)
            await victim.upgraded()
            victim.send(said("anybody?"))
            await victim.end()
            await eventually(lambda: len(gate.sessions) == 1)
            assert gate.gate._telemetry.metrics.pending == 0

            upstream.say("me too")
            assert await client.message() == "me too"
            assert any("failed" in record.getMessage() for record in caplog.records if record.exc_info)
            caplog.clear()
            behind.close()
            victim.close()
            await gate.clean(client)

    run(main())


def test_a_bug_in_a_try_is_a_failed_try_that_another_one_follows(run, tmp_path, monkeypatch, caplog):
    healthy, calls = Offer.fields, []

    def broken_at_first(self, *args):
        calls.append(self)
        if len(calls) == 1:
            raise RuntimeError("a bug of ours")
        return healthy(self, *args)

    monkeypatch.setattr(Offer, "fields", broken_at_first)

    async def main():
        async with Backend.listening() as backend, standing(tmp_path, backend) as gate:
            client = await gate.dial(request())
            broken = await backend.connection()
            upstream, head = await backend.requested()
            upstream.accept(head)
            await client.upgraded()
            client.say("hello")
            assert await upstream.message() == "hello"
            assert any("try 1 failed" in record.getMessage() for record in caplog.records)
            caplog.clear()
            broken.close()
            await gate.clean(client)
            assert gate.handshake()["readygate.redial.causes"] == ("lost",)

    run(main())
