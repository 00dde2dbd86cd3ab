from __future__ import annotations

import base64
import json
import logging
import string
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.report import Outcome
from proxy.telemetry import redact
from proxy.telemetry.logs import JsonFormatter
from tests.telemetry.reports import START_MS, Recorded, closed, open_session, report, request

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("", ""),
        ("x=1&y=%20a", "x=1&y=%20a"),
        ("token=abc", "token=REDACTED"),
        ("a=1&access_token=abc&b=2", "a=1&access_token=REDACTED&b=2"),
        ("a=1;jwt=abc;b", "a=1;jwt=REDACTED;b"),
        ("%74oken=abc", "%74oken=REDACTED"),
        ("Api-Key=abc&apiKey=abc&key=abc", "Api-Key=REDACTED&apiKey=REDACTED&key=REDACTED"),
        ("X-Amz-Signature=abc&code=abc&sig=abc", "X-Amz-Signature=REDACTED&code=REDACTED&sig=REDACTED"),
        (
            "user[password]=abc&ticket=abc&session=abc",
            "user[password]=REDACTED&ticket=REDACTED&session=REDACTED",
        ),
        (f"q={JWT}", "q=REDACTED"),
        (JWT, "REDACTED"),
        (f"q={quote('Bearer abcdef')}", "q=REDACTED"),
        ("token=&author=me&zipcode=1&keyboard=de", "token=&author=me&zipcode=1&keyboard=de"),
    ],
)
def test_query_values_that_are_secret_are_cut_out_and_the_rest_is_kept(raw, told):
    assert redact.query(raw) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("graphql-ws", "graphql-ws"),
        ("jwt-auth, jwt.abc", "jwt-auth, jwt.REDACTED"),
        ("jwt-auth.abc", "jwt-auth.REDACTED"),
        ("bearer.abc,chat", "bearer.REDACTED, chat"),
        (
            "base64url.bearer.authorization.k8s.io.abc, v4.channel.k8s.io",
            "base64url.bearer.REDACTED, v4.channel.k8s.io",
        ),
        (JWT, "REDACTED"),
        (base64.urlsafe_b64encode(JWT.encode()).decode().rstrip("="), "REDACTED"),
        ("x" * 65, "REDACTED"),
        ("access_token, s3cr3t, graphql-ws", "access_token, REDACTED, graphql-ws"),
    ],
)
def test_subprotocols_that_carry_a_token_lose_it(raw, told):
    assert redact.subprotocols(raw) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("t=abc&x=1", "t=REDACTED&x=1"),
        ("%74=abc&tt=1", "%74=REDACTED&tt=1"),
        ("my+t=abc", "my+t=REDACTED"),
        ("t=&t", "t=&t"),
    ],
)
def test_query_values_that_the_policy_calls_tokens_are_cut_out(raw, told):
    assert redact.query(raw, frozenset({"t", "my t"})) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("chat, x.abc", "chat, x.REDACTED"),
        ("x.", "x."),
        ("x, xx.abc", "x, xx.abc"),
        ("jwt-auth, jwt-auth.abc", "jwt-auth, jwt-REDACTED"),
    ],
)
def test_what_stands_behind_a_prefix_of_the_policy_is_cut_out(raw, told):
    assert redact.subprotocols(raw, ("x.", "jwt-")) == told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("Authorization: Bearer abc def", "Authorization: REDACTED"),
        ("{'Cookie': 'sid=1; b=2'}", "{'Cookie': REDACTED"),
        ("GET /ws?token=abc&x=1 failed", "GET /ws?token=REDACTED&x=1 failed"),
        (f"bad value {JWT}!", "bad value REDACTED!"),
        ("port 8000 is taken", "port 8000 is taken"),
    ],
)
def test_free_text_loses_what_looks_like_a_secret(raw, told):
    assert redact.text(raw) == told


@given(st.binary(max_size=600) | st.text(max_size=600))
def test_cleaned_values_are_valid_and_bounded(value):
    assert len(redact.clean(value).encode()) <= 256


TOKENS = st.text(string.ascii_letters + string.digits + "_-", min_size=12, max_size=300).map("TOK{}".format)
PLACES = st.sampled_from(
    [
        *("authorization", "basic", "cookie", "api-key", "agent"),
        *("jwt.", "bearer.", "jwt-auth.", "k8s", "after", "jwt", "b64", "long"),
        *("token", "access_token", "%74oken", "auth", "api_key", "sig", "ticket"),
        *("jwtvalue", "path", "fragment"),
    ]
)


def plant(token: str, place: str):
    jwt = f"eyJhbGciOiJIUzI1NiJ9.{token}.{token}"
    b64 = base64.urlsafe_b64encode(jwt.encode()).decode().rstrip("=")
    headers = {
        "authorization": (b"Authorization", f"Bearer {token}"),
        "basic": (b"authorization", f"Basic {token}"),
        "cookie": (b"Cookie", f"sid={token}; theme=dark"),
        "api-key": (b"X-Api-Key", token),
        "agent": (b"User-Agent", f"curl/8 {jwt}"),
    }
    protocols = {
        "jwt.": f"jwt-auth, jwt.{token}",
        "bearer.": f"chat,bearer.{token}",
        "jwt-auth.": f"jwt-auth.{token}",
        "k8s": f"base64url.bearer.authorization.k8s.io.{token}, base64.binary.k8s.io",
        "after": f"Bearer, {token}",
        "jwt": jwt,
        "b64": b64,
        "long": f"{token}{'x' * 64}",
    }
    targets = {
        "jwtvalue": f"/ws?q={jwt}",
        "path": f"/ws/{jwt}/x",
        "fragment": f"/ws?x=1#access_token={token}",
    }
    if place in headers:
        name, value = headers[place]
        return request(headers=[(name, value.encode())])
    if place in protocols:
        return request(headers=[(b"Sec-WebSocket-Protocol", protocols[place].encode())])
    return request(target=targets.get(place, f"/ws?x=1&{place}={token}"))


@settings(max_examples=150, deadline=None)
@given(TOKENS, PLACES)
def test_a_token_never_reaches_spans_logs_or_listeners(token, place):
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    log, keep = logging.getLogger("readygate.session"), Keep()
    keep.setFormatter(JsonFormatter("p"))
    log.addHandler(keep)
    log.setLevel(logging.INFO)
    try:
        recorded, facts = Recorded(), plant(token, place)
        recorded.telemetry.listeners.append(lambda _, fields: lines.append(json.dumps(fields)))
        open_session(recorded.telemetry, facts)[1].finish(closed(), START_MS + 20)
        recorded.telemetry.handshake(facts, START_MS).finish(report(Outcome.REJECTED, 401), START_MS + 5)
        spans = [span.to_json() for span in recorded.all()]
    finally:
        log.removeHandler(keep)
    assert len(lines) == 6
    assert len(spans) == 12 + 7
    for told in (*lines, *spans):
        assert token not in told
        assert token[:12] not in told


@settings(deadline=None)
@given(
    st.text(st.characters(), max_size=300),
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"Host", b"User-Agent", b"X-Forwarded-For", b"Sec-WebSocket-Protocol", b"tracestate"]
            )
            | st.just(b"traceparent"),
            st.binary(max_size=300),
        ),
        max_size=8,
    ),
)
def test_no_request_is_too_strange_to_be_told_of(target, headers):
    recorded = Recorded()
    open_session(recorded.telemetry, request(target, headers))
    root = recorded.spans()["websocket.handshake"]
    for value in root.attributes.values():
        assert not isinstance(value, str) or len(value.encode()) <= 256


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("redirect=%3Ftoken%3Dopaque1", "redirect=REDACTED"),
        ("a=b?token=opaque1", "a=REDACTED"),
        ("next=https%3A%2F%2Fx.test%2F%3Fpage%3D2", "next=https%3A%2F%2Fx.test%2F%3Fpage%3D2"),
        ("k3y4opaque5without6name", "REDACTED"),
        ("room=lobby&a=0123456789abcdef0123456789abcdef", "room=lobby&a=REDACTED"),
        ("debug", "debug"),
        ("since=2026-11-23T10%3A00%3A00Z&limit=50", "since=2026-11-23T10%3A00%3A00Z&limit=50"),
    ],
)
def test_opaque_values_and_tokens_inside_values_do_not_appear(raw, told):
    assert redact.query(raw) == told
