"""Claims as header fields, and that nobody else can send one."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.guard import Reason, RefusedError, alias, claim_fields, without_spoofed
from proxy.guard.claims import field_value


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("ada", b"ada"),
        ("Ada Lovelace", b"Ada Lovelace"),
        ("auth0|5f7c8ec7c33c6c004bbafe82", b"auth0|5f7c8ec7c33c6c004bbafe82"),
        ("Zoë", b"Zo%C3%AB"),
        ("100%", b"100%25"),
        (" a ", b"%20a%20"),
        ("a\r\nX-Admin: 1", b"a%0D%0AX-Admin: 1"),
        ("\0\x7f\t", b"%00%7F%09"),
        ("\ud800", b"%3F"),
        ("", b""),
        (7, b"7"),
        (True, b"true"),
        (1.5, b"1.5"),
        (["a", "b"], b'["a","b"]'),
        ({"roles": ["ü"]}, b'{"roles":["\\u00fc"]}'),
    ],
)
def test_a_claim_is_sent_so_that_it_can_be_read_back_and_ends_no_line(value, sent):
    assert field_value(value) == sent


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_and_is_visible_ascii(text):
    field = field_value(text)
    assert unquote(field.decode("ascii")) == text
    assert all(0x20 <= byte < 0x7F for byte in field)
    assert field == field.strip()


def test_claims_that_are_not_there_make_no_field():
    wanted = (("X-User-Id", "sub"), ("X-Role", "role"), ("X-Tenant", "https://example.com/tenant"))
    claims = {"sub": "ada", "role": None, "https://example.com/tenant": "t"}
    assert claim_fields(wanted, claims) == [(b"X-User-Id", b"ada"), (b"X-Tenant", b"t")]


def test_a_claim_that_is_too_long_for_a_field_is_refused_not_cut():
    assert len(field_value("x" * 8192)) == 8192
    with pytest.raises(RefusedError) as caught:
        field_value("x" * 8193)
    assert caught.value.reason is Reason.CLAIM_TOO_LONG


@pytest.mark.parametrize("name", [b"X-User-Id", b"x-user-id", b"X_User_Id", b"X-USER_ID"])
def test_a_field_that_a_backend_may_take_for_a_claims_is_removed(name):
    names = frozenset({alias(b"X-User-Id")})
    kept = [(b"Host", b"a"), (b"X-User-Ids", b"1"), (b"X-User", b"2")]
    assert without_spoofed([kept[0], (name, b"root"), *kept[1:]], names) == kept
