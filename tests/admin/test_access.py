"""Who may ask the admin listener: by name, by page, by token; and what every answer forbids other sites."""

from __future__ import annotations

import base64
import logging
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from proxy.admin import AdminAccess
from proxy.admin.app import build
from proxy.admin.files import CONTENT_POLICY
from tests.admin.serving import State

TOKEN = "correct-horse-battery-staple"
STREAMS = ["/events", "/page/events"]
CLOSED = ["/", "/metrics", "/sessions", "/handshakes", "/policy", "/page/main.js", "/nothing", *STREAMS]
HEALTH = ["/livez", "/readyz", "/startupz"]
FAR = AdminAccess(TOKEN, frozenset({"gate.internal", "*.ops.example"}), addresses=True)


@asynccontextmanager
async def served(access: AdminAccess):
    state = State()
    runner = web.ServerRunner(web.Server(build(state, 30.0, access)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
        try:
            yield client
        finally:
            state.feed.close()
            await runner.cleanup()


def fetch(run, path: str, access: AdminAccess, **headers: str):
    """Status, headers and text of an answer; of a stream only its start."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}

    async def main():
        async with served(access) as client, client.get(path, headers=told) as answer:
            streams = path in STREAMS and answer.status == 200
            return answer.status, answer.headers, "" if streams else await answer.text()

    return run(main())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# -- the token --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CLOSED)
def test_without_the_token_nothing_is_told_but_which_schemes_will_do(run, path):
    status, headers, body = fetch(run, path, FAR)
    assert (status, headers["Content-Type"]) == (401, "application/problem+json")
    challenges = headers.getall("WWW-Authenticate")
    assert [each.split()[0] for each in challenges] == ["Bearer", "Basic"]
    assert headers["Connection"] == "close"
    assert "livez" not in body


@pytest.mark.parametrize("path", HEALTH)
def test_health_is_answered_to_everybody(run, path):
    assert fetch(run, path, FAR, Host="whatever.example", Sec_Fetch_Site="cross-site")[0] == 200


@pytest.mark.parametrize(
    "shown",
    [
        *(f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("", TOKEN), basic("prometheus", TOKEN)),
        basic("a", TOKEN).replace("Basic", "BASIC"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/page/main.js", "/sessions", *STREAMS])
def test_with_the_token_everything_is_told_however_it_is_shown(run, path, shown):
    assert fetch(run, path, FAR, Authorization=shown)[0] == 200


@pytest.mark.parametrize(
    "shown",
    [
        *("", "Bearer", "Bearer ", TOKEN, f"Token {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"),
        *(f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN} x", "Bearer é", basic(TOKEN, ""), basic("a", "b")),
        *("Basic", "Basic !!!", f"Basic {TOKEN}", f"Bearer {basic('', TOKEN)}"),
    ],
)
def test_anything_else_is_not_the_token(run, shown):
    assert fetch(run, "/sessions", FAR, Authorization=shown)[0] == 401


def test_without_a_token_set_nobody_is_asked_for_one(run):
    assert fetch(run, "/sessions", AdminAccess())[0] == 200


def test_the_token_is_in_no_text_that_is_made_of_its_owner():
    assert TOKEN not in repr(FAR)
    assert TOKEN not in str(FAR)


# -- the name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "near", "far"),
    [
        ("localhost:9901", 200, 200),
        ("LOCALHOST", 200, 200),
        ("127.0.0.1:9901", 200, 200),
        ("127.0.0.2", 200, 200),
        ("[::1]:9901", 200, 200),
        ("10.1.2.3:9901", 421, 200),
        ("[2001:db8::7]:9901", 421, 200),
        ("gate.internal:9901", 421, 200),
        ("a.ops.example", 421, 200),
        ("rebound.example:9901", 421, 421),
        ("localhost.rebound.example", 421, 421),
        ("127.0.0.1.rebound.example", 421, 421),
        ("0.0.0.0:9901", 421, 200),
        ("a b", 400, 400),
    ],
)
def test_a_name_that_the_listener_does_not_go_by_is_a_421(run, host, near, far):
    assert fetch(run, "/sessions", AdminAccess(), Host=host)[0] == near
    assert fetch(run, "/sessions", FAR, Host=host, Authorization=f"Bearer {TOKEN}")[0] == far


def test_a_foreign_name_hears_of_no_token(run):
    status, headers, _ = fetch(run, "/sessions", FAR, Host="rebound.example")
    assert status == 421
    assert "WWW-Authenticate" not in headers


# -- the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://localhost:9901"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
        ({"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, 200),
        ({"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
    ],
)
def test_another_sites_page_is_refused_and_a_followed_link_is_not(run, headers, status):
    assert fetch(run, "/sessions", AdminAccess(), Host="localhost:9901", **headers)[0] == status


@pytest.mark.parametrize("path", [*CLOSED, *HEALTH])
@pytest.mark.parametrize("access", [AdminAccess(), FAR], ids=["open", "refused"])
def test_no_answer_may_be_read_embedded_or_framed_by_another_site(run, path, access):
    _, headers, _ = fetch(run, path, access)
    assert not [name for name in headers if name.lower().startswith("access-control-")]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    of_page = path == "/page/main.js" and access is not FAR
    assert headers["Content-Security-Policy"] == (CONTENT_POLICY if of_page else "frame-ancestors 'none'")
    assert "frame-ancestors 'none'" in CONTENT_POLICY
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


# -- what is said of it -----------------------------------------------------------------------------------


def test_refusals_are_a_line_each_ten_seconds_without_what_was_shown(run, caplog):
    async def main():
        async with served(FAR) as client:
            for _ in range(5):
                async with client.get("/sessions", headers={"Authorization": "Bearer wrong-guess"}) as answer:
                    assert answer.status == 401

    with caplog.at_level(logging.WARNING):
        run(main())
    (line,) = [each for each in caplog.records if each.getMessage() == "admin request refused"]
    assert line.fields == {"reason": "token", "status": 401, "refused": 1}


# -- the options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_on_loopback_no_token_is_needed(listen):
    assert AdminAccess.parse(listen, "", "") == AdminAccess()
    assert AdminAccess.parse(listen, "", TOKEN) == AdminAccess(TOKEN)


@pytest.mark.parametrize("listen", ["0.0.0.0", "10.1.2.3", "::", "2001:db8::7", "gate.internal"])
def test_elsewhere_one_is(listen):
    with pytest.raises(ValueError, match=r"--admin .* READYGATE_ADMIN_TOKEN has to be set"):
        AdminAccess.parse(listen, "", "")
    assert AdminAccess.parse(listen, "", TOKEN).addresses


def test_it_goes_by_the_name_that_it_listens_on_and_by_those_that_are_given():
    assert AdminAccess.parse("Gate.Internal", "a.example, *.b.example:9901,", TOKEN).hosts == {
        "gate.internal",
        "a.example",
        "*.b.example:9901",
    }
    assert AdminAccess.parse("localhost", "a.example", "").hosts == {"a.example"}


@pytest.mark.parametrize("token", ["short", "x" * 15, "with a space in it", "tab\tin-the-middle", "é" * 16])
def test_a_bad_token_is_told_without_being_shown(token):
    with pytest.raises(ValueError, match="READYGATE_ADMIN_TOKEN: expected at least 16 characters") as caught:
        AdminAccess.parse("127.0.0.1", "", token)
    assert token not in str(caught.value)


def test_a_bad_name_is_told():
    with pytest.raises(ValueError, match=r"--admin-hosts 'a/b': expected names separated by commas"):
        AdminAccess.parse("127.0.0.1", "a/b", "")
