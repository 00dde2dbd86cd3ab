from __future__ import annotations

import pytest

from proxy.edge.upstream import parse_upstream


@pytest.mark.parametrize(
    "text",
    [
        "ftp://127.0.0.1:1",
        "127.0.0.1:8000",
        "http://",
        "http://h:99999",
        "http://h:port",
        "http://h/path",
        "http://h?query",
        "http://user@h",
        "unix:rel",
    ],
)
def test_what_is_no_upstream_is_told_in_one_line_with_what_it_is(text: str):
    with pytest.raises(ValueError, match=r"^upstream .*(expected|belong|must be)") as told:
        parse_upstream(text)
    assert repr(text) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://me:sesame@h:8000",
        "http://me:1/sesame@h:80",
        "http://me:1#sesame@h",
        "http://me:1?sesame@h",
        "http://me:1 sesame@h",
        "http://a@b:sesame@h",
        "https:me:sesame@h",
        "http:/me:sesame@h",
        "me:sesame@h:80",
    ],
)
def test_the_password_of_what_is_no_upstream_is_not_told(text: str):
    with pytest.raises(ValueError, match="REDACTED") as told:
        parse_upstream(text)
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("http://h", "http://h"),
        ("http://h:80/", "http://h"),
        ("https://h:8443", "https://h:8443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_an_upstream_is_a_url_without_a_path_or_the_path_of_a_socket(text: str, meant: str):
    assert str(parse_upstream(text)) == meant
