"""Tokens as users meet them: a real gate before a real backend, keys of a real issuer over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.backends import front, launch, wire
from tests.backends.issuer import ALGORITHMS, Issuer, bent, encoded, signing
from tests.backends.launch import Server
from tests.integration.conftest import Pair

HEADER = "{from: authorization}"
SOURCES = (
    f"{HEADER}, {{from: subprotocol, prefix: jwt., encoding: base64url}}, {{from: cookie, name: sid}},"
    " {from: subprotocol, prefix: bearer., encoding: plain}, {from: query, name: t}"
)
CHALLENGE = 'Bearer realm="readygate", error="invalid_token", error_description="The token is not valid"'


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    with launch.uvicorn() as server:
        yield server


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as one:
        yield one


# What a client meets that has every choice; on one path it cannot see statuses, and HTTP needs a token, too.
EVERYTHING = """
extends: testing
guard:
  jwt:
    sources: [{sources}]
    algorithms: [ES256]
    leeway_s: 0
    jwks: {{url: "{url}"}}
    claims_to_headers: {{X-User-Id: sub, X-Roles: roles, X-Team: team}}
routes:
  - path: /ws/echo
    guard: {{jwt: {{on_failure: close, close_code: 4403, close_at_expiry: true, expiry_code: 4409}}}}
  - path: /me
    rewrite: /whoami
    guard: {{jwt: {{http: true, on_failure: close}}}}
"""


@pytest.fixture(scope="module")
def open_house(backend: Server) -> Iterator[tuple[Pair, Issuer]]:
    with Issuer() as issuer:
        text = EVERYTHING.format(sources=SOURCES, url=issuer.url)
        with front.gate(backend.url, text) as gate:
            yield Pair(backend, gate), issuer


@pytest.fixture
def behind(backend: Server) -> Iterator[Callable[..., Pair]]:
    """A gate with these lines of `guard.jwt`, of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(*lines: str, top: str = "", env: dict[str, str] | None = None, **flags: str) -> Pair:
            gate = stack.enter_context(front.gate(backend.url, policy(*lines, top=top), env=env, **flags))
            return Pair(backend, gate)

        yield start


def policy(*lines: str, top: str = "", sources: str = HEADER) -> str:
    told = "\n".join(f"    {line}" for line in (*lines, f"sources: [{sources}]") if line)
    return f"extends: testing\n{top}\nguard:\n  jwt:\n{told}\n"


def by_url(issuer: Issuer, **more: float) -> str:
    told = "".join(f", {name}: {value}" for name, value in more.items())
    return f'jwks: {{url: "{issuer.url}"{told}}}'


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


async def asked(pair: Pair, *fields: str, path: str = "/ws/request") -> tuple[wire.Head, dict]:
    """One upgrade: its answer, and what it says: the backend's view of it, or the problem."""
    async with await wire.Wire.dial(pair.through, wire.upgrade(path, *fields)) as client:
        head = await client.head()
        if head.status != 101:
            body = await client.body()
            await client.gone.wait()
            return head, json.loads(body or b"{}")
        told = json.loads(await client.message())
        assert await client.leave() == []
        return head, told


def seen(told: dict, name: str) -> list[str]:
    return [value for field, value in told["fields"] if field == name]


def admin(gate: Server, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{gate.admin_port}{path}", timeout=10) as answer:
        return answer.read().decode()


def logged(gate: Server, *words: str, times: int = 1) -> str:
    """Wait until that many lines have all of these words."""

    def there(text: str) -> bool:
        return sum(all(word in line for word in words) for line in text.splitlines()) >= times

    return gate.wait_for_log(there, within_s=20)


# -- algorithms and sources ---------------------------------------------------------------------------------


def test_tokens_of_every_algorithm_are_accepted_and_their_forgeries_refused(run, behind, tmp_path):
    """One gate with a key for each: secrets from the environment, public keys from files."""
    keys, env = [], {}
    for name in ALGORITHMS:
        if name.startswith("HS"):
            continue
        (tmp_path / f"{name}.pem").write_bytes(signing(name).public)
        keys.append(f'{{kind: public, file: "{tmp_path}/{name}.pem", kid: {name}}}')
    env["SHARED"] = signing("HS512").private.decode()
    keys.append("{kind: secret, env: SHARED}")
    pair = behind(f"algorithms: [{', '.join(ALGORITHMS)}]", f"keys: [{', '.join(keys)}]", env=env)

    async def main() -> None:
        import jwt  # noqa: PLC0415

        for name in ALGORITHMS:
            key = signing("HS512").private if name.startswith("HS") else signing(name).private
            claims = {"sub": name, "exp": int(time.time()) + 600}
            token = jwt.encode(claims, key, name, headers={"kid": name})
            head, _ = await asked(pair, bearer(token))
            assert (name, head.status) == (name, 101)
            head, told = await asked(pair, bearer(bent(token)))
            assert (name, head.status, head.get("WWW-Authenticate")) == (name, 401, CHALLENGE)
            assert told == {"title": "Unauthorized", "status": 401, "detail": "the token is not valid"}

    run(main())


def test_a_token_may_come_in_each_of_five_ways_and_reaches_the_backend_unchanged(run, open_house):
    pair, issuer = open_house
    token = issuer.token()

    async def main() -> None:
        head, told = await asked(pair, bearer(token))
        assert (head.status, seen(told, "authorization")) == (101, [f"Bearer {token}"])
        offers = ["jwt-auth", f"jwt.{encoded(token)}"]
        head, told = await asked(pair, f"Sec-WebSocket-Protocol: {', '.join(offers)}")
        assert (head.get("Sec-WebSocket-Protocol"), told["offered"]) == ("jwt-auth", offers)
        head, told = await asked(pair, f"Sec-WebSocket-Protocol: bearer.{token}, chat")
        # whatever the backend chooses is mirrored, though it be the token itself
        assert head.get("Sec-WebSocket-Protocol") == f"bearer.{token}"
        head, told = await asked(pair, f"Cookie: a=1; sid={token}")
        assert (head.status, seen(told, "cookie")) == (101, [f"a=1; sid={token}"])
        head, told = await asked(pair, path=f"/ws/request?a=1&t={token}")
        assert (head.status, told["query"]) == (101, f"a=1&t={token}")
        for fields, path in [
            ((), "/ws/request"),
            (("Cookie: sid=",), "/ws/request?t="),
            ((), "/ws/nowhere"),
        ]:
            head, told = await asked(pair, *fields, path=path)
            assert (head.status, head.get("WWW-Authenticate")) == (401, 'Bearer realm="readygate"')
            assert head.get("Connection") == "close"
            assert told["detail"] == "a token is required"

    run(main())


def test_a_token_shows_nowhere(run, backend, issuer):
    """Good and bad tokens by every way: not in the log, spans, metrics, the admin port's pages or errors."""
    text = policy("algorithms: [ES256]", by_url(issuer), sources=SOURCES)
    env = {"OTEL_TRACES_EXPORTER": "console", "READYGATE_LOG_LEVEL": "DEBUG", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    tokens = [
        issuer.token(),
        bent(issuer.token()),
        issuer.token(exp=1),
        issuer.token(aud="x"),
        "not.a.token0",
    ]
    pages = ""
    with front.gate(backend.url, text, env=env) as gate:
        pair = Pair(backend, gate)

        async def main() -> str:
            for token in tokens:
                await asked(pair, bearer(token))
                await asked(pair, f"Sec-WebSocket-Protocol: jwt-auth, jwt.{encoded(token)}")
                await asked(pair, f"Sec-WebSocket-Protocol: chat, bearer.{token}")
                await asked(pair, f"Cookie: sid={token}")
                await asked(pair, path=f"/ws/request?t={token}&b=2")
                await asked(pair, path=f"/ws/request?%74=%{ord(token[0]):x}{token[1:]}")
            async with await wire.opened(pair.through, f"/ws/request?t={tokens[0]}"):
                return admin(gate, "/sessions") + admin(gate, "/metrics") + admin(gate, "/policy")

        pages = run(main())
        logged(gate, '"name": "websocket.handshake"', times=len(tokens) * 6)
        told = pages + gate.stdout.read_text() + gate.stderr.read_text()
    assert told.count('"name": "guard.auth"') >= len(tokens) * 6
    for token in tokens:
        for form in (token, encoded(token), *(part for part in token.split(".")[1:] if len(part) > 10)):
            assert form not in told
    assert "t=REDACTED" in told


# -- failures -----------------------------------------------------------------------------------------------


def test_each_failure_has_its_reason_for_the_operator_and_hardly_any_for_the_client(run, behind, issuer):
    pair = behind(
        "algorithms: [ES256]",
        by_url(issuer, min_refresh_s=3600),
        "audience: [chat]",
        "issuer: [us]",
        "required: [exp, sub]",
        "leeway_s: 5",
        "max_bytes: 2000",
        "claims_to_headers: {X-Name: name}",
    )
    good = {"aud": "chat", "iss": "us"}
    cases = {
        "signature": bent(issuer.token(**good)),
        "unknown_key": issuer.key.token("who", **good),
        "algorithm": signing("HS256").token(issuer.kid, **good),
        "expired": issuer.token(**good | {"exp": 1}),
        "not_yet_valid": issuer.token(nbf=int(time.time()) + 600, **good),
        "audience": issuer.token(**good | {"aud": "mail"}),
        "issuer": issuer.token(**good | {"iss": "them"}),
        "claim_missing": issuer.token(sub=None, **good),
        "malformed": "a.b.c",
        "too_long": "a" * 2001,
    }

    async def main() -> None:
        assert (await asked(pair, bearer(issuer.token(**good))))[0].status == 101
        for reason, token in cases.items():
            head, told = await asked(pair, bearer(token))
            expected = "the token has expired" if reason == "expired" else "the token is not valid"
            assert (reason, head.status, told["detail"]) == (reason, 401, expected)
        head, _ = await asked(pair, bearer(cases["signature"]), bearer(cases["expired"]))
        assert head.status == 401
        flood = [issuer.key.token(f"made-up-{number}") for number in range(20)]
        heads = await asyncio.gather(*(asked(pair, bearer(token)) for token in flood))
        assert {head.status for head, _ in heads} == {401}

    run(main())
    assert issuer.fetches == 1
    samples = dict(
        re.findall(r'readygate_auth_failures_total{reason="(\w+)"} (\d+)', admin(pair.gate, "/metrics"))
    )
    assert samples == dict.fromkeys([*cases, "ambiguous"], "1") | {"unknown_key": "21"}
    text = logged(pair.gate, "handshake rejected", times=len(samples) + 20)
    assert text.count("token refused") == len(samples)
    for reason in samples:
        assert f'"auth":"{reason}"' in text
        assert f'"message":"token refused","logger":"readygate.auth","reason":"{reason}","refused":1' in text


# -- accept and close ---------------------------------------------------------------------------------------


def test_who_cannot_see_statuses_is_told_by_a_message_and_a_close_code(run, open_house):
    pair, issuer = open_house
    pair.gate.mark()
    url = f"ws://127.0.0.1:{pair.gate.port}/ws/echo"

    async def told(token: str | None, *offers: str) -> tuple[dict, int, str, str | None]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with websockets.connect(url, additional_headers=headers, subprotocols=offers or None) as client:
            message = json.loads(await client.recv())
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd_then_sent  # a whole closing handshake
            return message, closed.value.rcvd.code, closed.value.rcvd.reason, client.subprotocol

    async def main() -> None:
        said = {"type": "error", "code": "unauthorized", "message": "a token is required"}
        assert await told(None) == (said, 4403, "a token is required", None)
        assert await told(None, "chat", "jwt-auth") == (said, 4403, "a token is required", "jwt-auth")
        message, code, _, chosen = await told(bent(issuer.token()), "chat")
        assert (message["code"], code, chosen) == ("invalid_token", 4403, "chat")
        assert (await told(issuer.token(exp=1)))[0]["code"] == "token_expired"
        async with websockets.connect(
            url, additional_headers={"Authorization": f"Bearer {issuer.token()}"}
        ) as client:
            await client.send("in")
            assert await client.recv() == "in"

    run(main())
    text = logged(pair.gate, "handshake rejected", '"close_code":4403', times=4)
    assert '"status":101' in text


def test_a_token_is_never_agreed_to_as_a_subprotocol(run, open_house):
    pair, issuer = open_house

    async def main() -> None:
        bad = bent(issuer.token())
        for offers, chosen in [
            ([f"bearer.{bad}"], None),
            ([f"bearer.{bad}", "chat"], "chat"),
            ([f"jwt.{encoded(bad)}", "chat", "jwt-auth"], "jwt-auth"),
        ]:
            fields = f"Sec-WebSocket-Protocol: {', '.join(offers)}"
            async with await wire.opened(
                pair.through, "/ws/echo", fields, early=wire.text("too early")
            ) as client:
                assert (await client.head()).get("Sec-WebSocket-Protocol") == chosen
                assert json.loads(await client.message())["code"] == "invalid_token"
                with pytest.raises(wire.ClosedError) as closed:
                    await client.message()
                assert closed.value.code == 4403
                await client.gone.wait()

    run(main())


# -- claims for the backend ---------------------------------------------------------------------------------


def test_claims_become_fields_that_nobody_else_can_send(run, open_house):
    pair, issuer = open_house
    spoofed = ["X-User-Id: root", "x-user-id: root", "X_User_Id: root", "X-Team: root", "X-Other: kept"]

    async def main() -> None:
        token = issuer.token(sub="Zoë\r\nX-Admin: 1", roles=["a", "b"])
        head, told = await asked(pair, bearer(token), *spoofed)
        assert head.status == 101
        assert seen(told, "x-user-id") == ["Zo%C3%AB%0D%0AX-Admin: 1"]
        assert seen(told, "x-roles") == ['["a","b"]']
        assert [seen(told, name) for name in ("x_user_id", "x-team", "x-admin")] == [[], [], []]
        assert seen(told, "x-other") == ["kept"]
        # what `Connection` names is the connection's own, and ends here; what the gate adds does not
        head, told = await asked(pair, bearer(token), "Connection: X-Roles, X-User-Id", "X-Roles: root")
        assert seen(told, "x-roles") == ['["a","b"]']

    run(main())
    # plain HTTP needs no token here, but the names are the gate's there, too
    request = urllib.request.Request(
        f"http://127.0.0.1:{pair.gate.port}/whoami", headers={"X-User-Id": "root"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert "x-user-id" not in json.load(answer)["headers"]


def test_plain_http_needs_a_token_if_the_policy_says_so(run, open_house):
    pair, issuer = open_house
    url = f"http://127.0.0.1:{pair.gate.port}/me"

    def get(token: str | None) -> dict:
        headers = {"X-User-Id": "root"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return json.load(answer)["headers"]

    async def got_while_connection_names_the_field() -> bytes:
        reader, writer = await asyncio.open_connection(*pair.through)
        lines = [
            "GET /me HTTP/1.1",
            "Host: a",
            "Connection: close, X-User-Id",
            bearer(issuer.token(sub="ada")),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.read()
        writer.close()
        return answer

    assert get(issuer.token(sub="ada"))["x-user-id"] == "ada"
    assert b'"x-user-id":"ada"' in run(got_while_connection_names_the_field())
    for token, challenge in [(None, 'Bearer realm="readygate"'), (bent(issuer.token()), CHALLENGE)]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(token)
        assert (caught.value.code, caught.value.headers["WWW-Authenticate"]) == (401, challenge)
        caught.value.close()


# -- expiry -------------------------------------------------------------------------------------------------


def test_a_session_ends_with_its_token_if_the_policy_says_so(run, open_house):
    pair, issuer = open_house

    async def main() -> None:
        lasting = await wire.opened(pair.through, "/ws/echo", bearer(issuer.token()))
        ends_s = int(time.time()) + 2
        async with await wire.opened(pair.through, "/ws/echo", bearer(issuer.token(exp=ends_s))) as client:
            client.send(wire.text("still here"))
            assert await client.message() == b"still here"
            with pytest.raises(wire.ClosedError) as closed:
                await client.message()
            assert closed.value.code == 4409
            assert time.time() >= ends_s
        async with lasting:
            lasting.send(wire.text("still here"))
            assert await lasting.message() == b"still here"
            assert await lasting.leave() == []

    run(main())
    logged(pair.gate, "session closed", '"ended_by":"gate","reason":"expired","client_code":4409')


# -- the key set --------------------------------------------------------------------------------------------


def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_ends(run, behind, issuer):
    pair = behind("algorithms: [ES256]", by_url(issuer, min_refresh_s=1))

    async def main() -> None:
        old = issuer.token()
        assert (await asked(pair, bearer(old)))[0].status == 101
        issuer.rotate()
        while (await asked(pair, bearer(issuer.token())))[0].status != 101:  # from min_refresh_s on
            assert issuer.fetches < 3
        assert (await asked(pair, bearer(issuer.token())))[0].status == 101
        assert (await asked(pair, bearer(old)))[0].status == 401

    run(main())


def test_without_any_key_tokens_are_not_called_bad_but_nobody_comes_in(run, behind, issuer):
    issuer.mode = "huge"
    pair = behind("algorithms: [ES256]", by_url(issuer, min_refresh_s=1))

    async def main() -> None:
        head, told = await asked(pair, bearer(issuer.token()))
        assert (head.status, told["detail"]) == (503, "tokens cannot be checked now")
        assert (head.get("Retry-After"), head.get("WWW-Authenticate")) == ("1", None)
        assert (await asked(pair))[0].status == 401
        issuer.mode = "ok"
        while (await asked(pair, bearer(issuer.token())))[0].status != 101:  # from min_refresh_s on
            assert issuer.fetches < 9

    run(main())
    assert "keys cannot be fetched" in pair.gate.stdout.read_text()  # since before it was ready


def test_a_slow_issuer_holds_up_only_who_needs_it_and_what_they_say_waits_in_the_network(run, behind, issuer):
    pair = behind("algorithms: [ES256]", by_url(issuer, min_refresh_s=1, timeout_s=30))

    async def main() -> None:
        assert (await asked(pair, bearer(issuer.token())))[0].status == 101
        known = issuer.token()
        issuer.rotate()
        issuer.mode = "hang"
        fetched = issuer.fetches
        waiting, flood = [], wire.binary(b"early" * 200_000) * 16
        while issuer.fetches == fetched:  # until one is let to cause a fetch
            first = wire.upgrade("/ws/echo", bearer(issuer.token()))
            waiting.append(await wire.Wire.dial(pair.through, first + flood))
            await asyncio.to_thread(issuer.wait_fetches, fetched + 1, 0.3)
        for _ in range(5):
            waiting.append(
                await wire.Wire.dial(pair.through, wire.upgrade("/ws/echo", bearer(issuer.token())))
            )
        assert (await asked(pair, bearer(known)))[0].status == 101
        assert issuer.fetches == fetched + 1  # one for all of them
        assert waiting[-6].transport.get_write_buffer_size()
        issuer.mode = "ok"
        issuer.release()
        heads = [await client.head() for client in waiting[-5:]]
        assert [head.status for head in heads] == [101] * 5
        for client in waiting:
            client.abort()

    run(main())


def test_who_waits_for_a_key_counts_as_a_handshake_under_way(run, behind, issuer):
    limited = "limits: {handshakes_pending: 1}"
    pair = behind("algorithms: [ES256]", by_url(issuer, min_refresh_s=1, timeout_s=30), top=limited)

    async def main() -> None:
        assert (await asked(pair, bearer(issuer.token())))[0].status == 101
        issuer.rotate()
        issuer.mode = "hang"
        fetched = issuer.fetches
        waiting = None
        while issuer.fetches == fetched:  # until one is let to cause a fetch
            if waiting is not None:
                waiting.abort()
            waiting = await wire.Wire.dial(pair.through, wire.upgrade("/ws/request", bearer(issuer.token())))
            await asyncio.to_thread(issuer.wait_fetches, fetched + 1, 0.3)
        head, told = await asked(pair, bearer(issuer.token()))
        assert (head.status, told["detail"]) == (503, "too many handshakes under way")
        issuer.mode = "ok"
        issuer.release()
        assert (await waiting.head()).status == 101
        waiting.abort()

    run(main())
    assert 'readygate_limits_hit_total{limit="handshakes_pending"} 1' in admin(pair.gate, "/metrics")


# -- the policy ---------------------------------------------------------------------------------------------


def test_a_route_may_ask_for_a_token_and_no_spelling_of_its_path_goes_around_it(run, backend, issuer):
    told = policy("algorithms: [ES256]", by_url(issuer)).partition("guard:")[2].rstrip()
    told = "\n".join(f"    {line}" for line in told.splitlines())
    with front.gate(backend.url, f"extends: testing\nroutes:\n  - path: /ws/**\n    guard:{told}\n") as gate:
        pair = Pair(backend, gate)

        async def main() -> None:
            assert (await asked(pair))[0].status == 401
            assert (await asked(pair, bearer(issuer.token())))[0].status == 101
            for path in ("/%77s/request", "/x/../ws/request", "//ws/request", "/ws%2Frequest"):
                head, problem = await asked(pair, path=path)
                assert (path, head.status, problem["title"]) == (path, 400, "Ambiguous path")
            assert (await asked(pair, path="/elsewhere"))[0].status == 403  # the backend's own

        run(main())


def test_keys_are_read_again_on_a_reload_and_a_bad_one_changes_nothing(run, behind, tmp_path):
    file = tmp_path / "key.pem"
    file.write_bytes(signing("ES256").public)
    pair = behind("algorithms: [ES256]", f'keys: [{{kind: public, file: "{file}"}}]')

    async def status(number: int) -> int:
        return (await asked(pair, bearer(signing("ES256", number).token())))[0].status

    def reload(content: bytes, word: str) -> None:
        file.write_bytes(content)
        pair.gate.mark()
        pair.gate.process.send_signal(signal.SIGHUP)
        logged(pair.gate, word)

    assert [run(status(0)), run(status(1))] == [101, 401]
    reload(signing("ES256", 1).public, "policy switched")
    assert [run(status(0)), run(status(1))] == [401, 101]
    reload(b"nonsense", "policy refused")
    assert f"guard.jwt.keys[0]: file {file}: not a public key in PEM" in pair.gate.log()
    assert [run(status(0)), run(status(1))] == [401, 101]


@pytest.mark.parametrize(
    ("key", "env", "code", "expected"),
    [
        ("{kind: secret, env: KEY}", {"KEY": "s3cr3t"}, 3, "env KEY: 6 bytes; HS256 wants at least 32"),
        (
            "{kind: secret, value: s3cr3t}",
            {},
            2,
            "found an unknown key, expected kind, file, env, encoding or kid",
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_said_at_the_start(tmp_path: Path, key, env, code, expected):
    file = tmp_path / "gate.yaml"
    file.write_text(policy("algorithms: [HS256]", f"keys: [{key}]"))
    words = [
        "run",
        "--upstream",
        "http://127.0.0.1:9",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--policy",
        str(file),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        env=launch.environment(**env),
        cwd=launch.ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert "s3cr3t" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_section_everything_passes_and_the_backend_answers(run, backend):
    with front.gate(backend.url, "testing") as gate:
        pair = Pair(backend, gate)

        async def main() -> None:
            head, told = await asked(
                pair, "Authorization: Bearer whatever", "X-User-Id: me", path="/ws/request?token=x"
            )
            assert (head.status, told["query"]) == (101, "token=x")
            assert (seen(told, "authorization"), seen(told, "x-user-id")) == (["Bearer whatever"], ["me"])
            with pytest.raises(InvalidStatus) as caught:
                await websockets.connect(f"ws://127.0.0.1:{gate.port}/ws/denied")
            assert caught.value.response.status_code == 401
            assert caught.value.response.body == b'{"detail":"who are you?"}'

        run(main())
