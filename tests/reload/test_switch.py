"""A gate that is given another policy, with raw peers at both ends: who keeps what, what is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.core.plan import Role
from proxy.edge.upstream import parse_upstream
from proxy.errors import StartError
from proxy.policy import load
from proxy.server import Gate
from tests.edge.peers import POLICY, Backend, Peer, Stand, eventually, request, standing
from tests.telemetry.reports import telemetry


@asynccontextmanager
async def stand_and_backend(folder: Path, policy: str = POLICY) -> AsyncIterator[tuple[Stand, Backend]]:
    async with Backend.listening() as backend, standing(folder, backend, policy) as stand:
        yield stand, backend


async def switch(stand: Stand, folder: Path, more: str) -> None:
    """Give the gate the usual policy with something more."""
    file = folder / "policy.yaml"
    file.write_text(POLICY + more)
    stand.gate.switch(await stand.gate.prepare(load(str(file))))


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: example.test", *fields, "", ""]).encode()


def answer(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


async def answered(client: Peer, text: str) -> None:
    """Take a response with this body."""
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200"), head
    assert await client.exactly(len(text)) == text.encode()


async def opened(stand: Stand, backend: Backend, path: bytes = b"/ws") -> tuple[Peer, Peer]:
    client = await stand.dial(request(path))
    upstream = await backend.accepted()
    assert (await client.upgraded()).startswith(b"HTTP/1.1 101")
    client.say("open?")
    assert await upstream.message() == "open?"
    return client, upstream


def test_open_sessions_keep_their_settings_and_new_ones_get_the_new(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            old, old_upstream = await opened(stand, backend)
            await switch(stand, tmp_path, "session: {upstream_lost_code: 4002}\n")
            new, new_upstream = await opened(stand, backend)
            for client, upstream, code in ((old, old_upstream, 1014), (new, new_upstream, 4002)):
                client.say("still here?")
                assert await upstream.message() == "still here?"
                upstream.say("yes")
                assert await client.message() == "yes"
                upstream.close()
                assert await client.closed() == (code, "")
            await stand.clean(old, new)

    run(main())


def test_a_handshake_that_is_under_way_goes_on_by_the_policy_that_it_began_with(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            client = await stand.dial(request())
            upstream, head = await backend.requested()
            await switch(stand, tmp_path, "session: {upstream_lost_code: 4002}\nroutes: [{path: /other}]\n")
            upstream.accept(head)
            await client.upgraded()
            upstream.say("welcome")
            assert await client.message() == "welcome"
            upstream.close()
            assert await client.closed() == (1014, "")
            await stand.clean(client)

    run(main())


def test_a_request_in_flight_ends_on_its_own_pool_which_is_closed_then(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            client = await stand.dial(get("/slow"))
            first, _ = await backend.requested()
            first.send(answer("a slow answer")[:-6])
            await client.head()
            await switch(stand, tmp_path, "http: {response_timeout_s: 9}\n")

            other = await stand.dial(get("/quick"))
            second, _ = await backend.requested()  # and not `first`, whose pool serves nobody new
            second.send(answer("quick"))
            await answered(other, "quick")
            assert not first.eof

            first.send(b"answer")
            assert await client.exactly(13) == b"a slow answer"
            await first.end()  # the pool is closed, and its connection with it
            client.send(get("/next"))  # the client's is not
            await second.head()
            second.send(answer("next"))
            await answered(client, "next")
            await eventually(lambda: stand.gate._generations[0].server.connections)
            client.close()
            await eventually(lambda: stand.gate._generations[0].over)

    run(main())


def test_an_idle_pool_is_closed_at_once(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            client = await stand.dial(get("/"))
            upstream, _ = await backend.requested()
            upstream.send(answer("up"))
            await answered(client, "up")
            await switch(stand, tmp_path, "http: {connections: 7}\n")
            assert await upstream.end() == b""

    run(main())


def test_a_kept_connection_gets_the_new_routes_but_keeps_its_limits(run, tmp_path):
    long = "X-Long: " + "x" * 3000

    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            kept = await stand.dial(get("/old", long))
            upstream, head = await backend.requested()
            assert head.startswith(b"GET /old ")
            upstream.send(answer("1"))
            await answered(kept, "1")
            changes = "http: {max_field_bytes: 1024}\nroutes: [{path: /old, rewrite: /new}]\n"
            await switch(stand, tmp_path, changes)
            kept.send(get("/old", long))
            upstream, head = await backend.requested()
            assert head.startswith(b"GET /new ")
            upstream.send(answer("2"))
            await answered(kept, "2")

            fresh = await stand.dial(get("/old", long))
            assert b" 431 " in await fresh.head()
            fresh = await stand.dial(get("/old", long[:1000]))
            assert (await upstream.head()).startswith(b"GET /new ")
            upstream.send(answer("3"))
            await answered(fresh, "3")

    run(main())


def test_what_a_route_has_learned_is_kept_where_its_plan_is_the_same(run, tmp_path):
    routes = "routes: [{path: /same}, {path: /other, departure: {quiet_ms: %d}}, {path: /%s}]\n"

    async def main():
        async with stand_and_backend(tmp_path, POLICY + routes % (7, "gone")) as (stand, _):
            shared = stand.gate._shared
            before = shared.policy
            paths = ("/same", "/other", "/gone", "/default")
            known = {
                path: (shared.windows(r), shared.quiet(r)) for path in paths for r in [before.route(path)]
            }
            await switch(stand, tmp_path, routes % (8, "came"))
            after = shared.policy

            def kept(path):
                windows, quiet = known[path]
                route = after.route(path)
                return shared.windows(route) is windows, shared.quiet(route) is quiet

            assert kept("/same") == kept("/default") == (True, True)
            assert kept("/other") == (True, False)
            assert kept("/gone") == (False, False)
            # What is older than the policy learns for itself, not for those that came after it.
            assert shared.quiet(before.route("/other")) is not shared.quiet(after.route("/other"))

    run(main())


def test_a_window_that_was_learned_holds_for_the_sessions_of_the_next_policy(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            shared = stand.gate._shared
            windows = shared.windows(shared.policy.default)
            for _ in range(20):
                client, _ = await opened(stand, backend)
                client.close()
            assert windows[Role.UPSTREAM].width_ms(0) == 0
            await switch(stand, tmp_path, "session: {upstream_lost_code: 4002}\n")
            assert shared.windows(shared.policy.default)[Role.UPSTREAM].width_ms(0) == 0
            await stand.clean()

    run(main())


def test_a_stop_ends_what_came_in_by_any_policy(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            idle = await stand.dial(get("/"))
            upstream, _ = await backend.requested()
            upstream.send(answer("up"))
            await answered(idle, "up")
            busy = await stand.dial(get("/slow"))
            await upstream.head()
            session, _ = await opened(stand, backend)
            await switch(stand, tmp_path, "session: {upstream_lost_code: 4002}\n")
            late, _ = await opened(stand, backend)
            stop = stand.gate._shared.loop.create_task(stand.gate.stop())
            await idle.end()
            assert await session.closed() == await late.closed() == (1012, "")
            session.bye(1012)
            late.bye(1012)
            upstream.send(answer("slow"))
            await answered(busy, "slow")
            for peer in backend.peers:
                peer.close()
            await stop
            assert not stand.sessions

    run(main())


def test_a_gate_that_stops_takes_no_other_policy(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, _):
            await stand.gate.stop()
            before = stand.gate.policy_text()
            await switch(stand, tmp_path, "session: {upstream_lost_code: 4002}\n")
            assert stand.gate.policy_text() == before
            assert len(stand.gate._generations) == 1

    run(main())


def test_policies_that_came_and_went_leave_nothing_behind(run, tmp_path):
    async def main():
        async with stand_and_backend(tmp_path) as (stand, backend):
            for number in range(20):
                client, upstream = await opened(stand, backend)
                plain = await stand.dial(get("/"))
                pooled, _ = await backend.requested()
                pooled.send(answer("up"))
                await answered(plain, "up")
                await switch(stand, tmp_path, f"session: {{upstream_lost_code: {4000 + number}}}\n")
                client.close()
                plain.close()
                upstream.close()
                await plain.gone()
                await pooled.end()
                pooled.close()
            await eventually(lambda: all(each.over for each in stand.gate._generations[:-1]))
            await switch(stand, tmp_path, "")
            assert len(stand.gate._generations) <= 2
            await stand.clean()

    run(main())


def test_an_authority_file_that_is_none_keeps_the_policy_from_being_taken(run, tmp_path):
    (tmp_path / "bad.yaml").write_text("upstream: {tls: {ca_file: none.pem}}\n")

    async def main():
        gate = Gate(parse_upstream("https://127.0.0.1:9"), load("testing"), telemetry(), None)
        with pytest.raises(StartError, match=r"upstream\.tls\.ca_file .*/none\.pem: .*No such file"):
            await gate.prepare(load(str(tmp_path / "bad.yaml")))
        plain = Gate(parse_upstream("http://127.0.0.1:9"), load("testing"), telemetry(), None)
        assert (await plain.prepare(load(str(tmp_path / "bad.yaml")))).tls is None

    run(main())
