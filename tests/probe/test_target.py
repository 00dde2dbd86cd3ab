from __future__ import annotations

import pytest

from proxy.probe.target import accept_value, parse_header, parse_target


def first_line(url: str) -> str:
    return parse_target(url).request("key").decode("latin-1").split("\r\n")[0]


@pytest.mark.parametrize(
    "resource",
    ["/", "/ws", "/a/../b//c", "/ws?x=1&x=2", "/ws?token=a%2Fb%20c", "/ws/%7Euser;v=1?next=https://h/?q"],
)
def test_path_and_query_go_out_as_they_were_written(resource: str) -> None:
    assert first_line(f"ws://h{resource}") == f"GET {resource} HTTP/1.1"


def test_what_a_request_line_cannot_carry_is_percent_encoded() -> None:
    assert first_line("ws://h/a b?q=é") == "GET /a%20b?q=%C3%A9 HTTP/1.1"


def test_a_url_without_a_path_asks_for_the_root() -> None:
    assert first_line("ws://h?x=1") == "GET /?x=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "authority", "host", "port"),
    [
        ("ws://h/", "h", "h", 80),
        ("wss://h/", "h", "h", 443),
        ("ws://h:8000/", "h:8000", "h", 8000),
        ("ws://[::1]:8000/", "[::1]:8000", "::1", 8000),
        ("ws://bücher.example/", "xn--bcher-kva.example", "bücher.example", 80),
    ],
)
def test_the_authority_is_what_the_url_says(url: str, authority: str, host: str, port: int) -> None:
    target = parse_target(url)
    assert (target.authority, target.host, target.port) == (authority, host, port)


@pytest.mark.parametrize(
    "url", ["http://h/", "h:80/ws", "ws://", "ws:///ws", "ws://h/#top", "ws://h:99999/", ""]
)
def test_what_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_target(url)


def test_a_user_in_the_url_becomes_basic_authorization() -> None:
    request = parse_target("ws://me:s%40cret@h/").request("key").decode()
    assert "Authorization: Basic bWU6c0BjcmV0\r\n" in request
    assert "Host: h\r\n" in request


def test_headers_of_the_user_replace_ours() -> None:
    target = parse_target("ws://h/", headers=(("host", "other"), ("User-Agent", "me")))
    request = target.request("key").decode()
    assert "host: other\r\n" in request
    assert "Host: h\r\n" not in request
    assert request.lower().count("user-agent") == 1


def test_the_query_is_not_shown_since_it_may_carry_a_token() -> None:
    assert parse_target("wss://me:secret@h/ws?token=secret").url == "wss://h/ws?..."


@pytest.mark.parametrize(
    "text", ["no colon", ": empty", "a b: c", "Upgrade: h2c", "Sec-WebSocket-Key: x", "X: a\r\nY: b", "X: €"]
)
def test_a_header_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_header(text)


def test_a_header_is_taken_apart_at_its_first_colon() -> None:
    assert parse_header("Origin:  https://h:8000 ") == ("Origin", "https://h:8000")


def test_the_accept_value_is_that_of_the_rfc() -> None:
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
