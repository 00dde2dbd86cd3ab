"""Where a token is found, and what is no token."""

from __future__ import annotations

import pytest

from proxy.guard import Reason, RefusedError, find_token
from proxy.policy import TokenSource
from tests.backends.issuer import encoded, signing

TOKEN = signing("HS256").token(kid="k")
OTHER = signing("HS256").token(sub="eve")
HEADER = TokenSource("authorization")
ENCODED = TokenSource("subprotocol", prefix="jwt.", encoded=True)
PLAIN = TokenSource("subprotocol", prefix="bearer.")
COOKIE = TokenSource("cookie", name="sid")
QUERY = TokenSource("query", name="access token")
ALL = (HEADER, ENCODED, PLAIN, COOKIE, QUERY)


def found(
    *headers: tuple[bytes, bytes], query: str = "", sources=ALL, max_bytes: int = 8192
) -> tuple[str, str]:
    token = find_token(sources, headers, query, max_bytes)
    return token.place, token.token


def refused(*headers: tuple[bytes, bytes], **told) -> Reason:
    with pytest.raises(RefusedError) as caught:
        found(*headers, **told)
    return caught.value.reason


def offer(*names: str) -> tuple[bytes, bytes]:
    return (b"Sec-WebSocket-Protocol", ", ".join(names).encode())


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_a_bearer_field_has_one(scheme):
    assert found((b"authorization", f"{scheme}{TOKEN}".encode())) == ("authorization", TOKEN)


@pytest.mark.parametrize(
    ("names", "query"),
    [
        (("jwt-auth", f"jwt.{encoded(TOKEN)}"), ""),
        ((f"jwt.{encoded(TOKEN)}", "jwt-auth"), ""),
        (("chat", f"bearer.{TOKEN}"), ""),
    ],
)
def test_an_offered_subprotocol_has_one_behind_its_prefix(names, query):
    assert found(offer(*names)) == ("subprotocol", TOKEN)


def test_offers_in_several_fields_are_one_list():
    assert found(offer("jwt-auth"), offer(f"jwt.{encoded(TOKEN)}")) == ("subprotocol", TOKEN)


@pytest.mark.parametrize(
    "value", [f"sid={TOKEN}", f"a=1; sid={TOKEN}; b=2", f'a="x"; sid="{TOKEN}"', f"xsid=1;sid={TOKEN}"]
)
def test_a_cookie_has_one(value):
    assert found((b"Cookie", value.encode())) == ("cookie", TOKEN)


@pytest.mark.parametrize(
    "query",
    [f"access%20token={TOKEN}", f"a=1&access+token={TOKEN}&b", f"access%20token={TOKEN.replace('.', '%2E')}"],
)
def test_a_query_parameter_has_one(query):
    assert found(query=query) == ("query", TOKEN)


def test_the_first_source_that_has_one_counts():
    headers = [(b"Cookie", f"sid={OTHER}".encode()), (b"Authorization", f"Bearer {TOKEN}".encode())]
    assert found(*headers) == ("authorization", TOKEN)
    assert found(*headers, sources=(COOKIE, HEADER)) == ("cookie", OTHER)


def test_a_source_that_the_policy_does_not_list_is_not_looked_at():
    assert refused((b"Authorization", f"Bearer {TOKEN}".encode()), sources=(COOKIE,)) is Reason.MISSING


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Authorization", b"Basic YTpi")],
        [(b"Authorization", b"Bearertoken")],
        [offer("jwt-auth", "chat")],
        [offer("jwt.")],
        [(b"Cookie", b"sid=; other=1")],
        [(b"X-Authorization", f"Bearer {TOKEN}".encode())],
    ],
)
def test_a_request_may_have_none(headers):
    assert refused(*headers, query="access%20token=") is Reason.MISSING


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([(b"Authorization", f"Bearer {each}".encode()) for each in (TOKEN, OTHER)], ""),
        ([offer(f"jwt.{encoded(TOKEN)}", f"jwt.{encoded(OTHER)}")], ""),
        ([(b"Cookie", f"sid={TOKEN}; sid={OTHER}".encode())], ""),
        ([(b"Cookie", f"sid={TOKEN}".encode()), (b"cookie", f"sid={OTHER}".encode())], ""),
        ([], f"access%20token={TOKEN}&access+token={OTHER}"),
    ],
)
def test_two_different_ones_in_one_source_are_refused_since_the_backend_might_take_the_other(headers, query):
    assert refused(*headers, query=query) is Reason.AMBIGUOUS


def test_the_same_one_twice_is_one():
    assert found(query=f"access+token={TOKEN}&access+token={TOKEN}") == ("query", TOKEN)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer",
        b"Bearer a.b",
        b"Bearer a.b.c.d",
        b"Bearer a..",
        b"Bearer a.b c.d",
        b"Bearer a.b.c=",
        b"Bearer \xe9.b.c",
    ],
)
def test_what_is_not_three_parts_of_base64url_is_malformed(value):
    assert refused((b"Authorization", value)) is Reason.MALFORMED


@pytest.mark.parametrize("raw", [f"{encoded(TOKEN)}=", "Z", "!!!!", encoded("héllo"), TOKEN])
def test_a_subprotocol_that_is_not_unpadded_base64url_of_a_token_is_malformed(raw):
    assert refused(offer(f"jwt.{raw}")) is Reason.MALFORMED


def test_a_token_may_be_as_long_as_the_policy_says_in_whatever_form():
    size = len(TOKEN)
    for header in (
        (b"Authorization", f"Bearer {TOKEN}".encode()),
        offer(f"jwt.{encoded(TOKEN)}"),
        offer(f"bearer.{TOKEN}"),
    ):
        assert found(header, max_bytes=size)[1] == TOKEN
        assert refused(header, max_bytes=size - 3) is Reason.TOO_LONG


def test_neither_what_is_found_nor_what_is_refused_shows_a_token():
    assert TOKEN not in repr(
        find_token((HEADER,), [(b"Authorization", f"Bearer {TOKEN}".encode())], "", 8192)
    )
    with pytest.raises(RefusedError) as caught:
        find_token((HEADER,), [(b"Authorization", f"Bearer {TOKEN}".encode())], "", 10)
    assert TOKEN not in repr(caught.value)
