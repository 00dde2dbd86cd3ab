from __future__ import annotations

import pytest

from proxy.edge.headers import (
    end_to_end,
    first,
    forwarded,
    of_response,
    origin_form,
    serialize,
    with_host,
)


def test_order_case_and_repetition_are_kept():
    raw = [(b"X-b", b"1"), (b"x-B", b"2"), (b"A", b""), (b"X-b", b"\xe4")]
    assert end_to_end(raw) == raw


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"KEEP-ALIVE", b"Proxy-Connection", b"te", b"Trailer", b"Transfer-Encoding", b"upgrade"],
)
def test_a_hop_by_hop_field_is_dropped_whatever_its_case(name):
    assert end_to_end([(b"A", b"1"), (name, b"x"), (b"B", b"2")]) == [(b"A", b"1"), (b"B", b"2")]


def test_what_connection_names_is_dropped_from_all_its_lines():
    raw = [
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"X-Other", b"2"),
        (b"X-Stays", b"3"),
        (b"connection", b" x-other\t"),
    ]
    assert end_to_end(raw) == [(b"X-Stays", b"3")]


def test_connection_cannot_name_away_the_length_or_the_host_of_a_message():
    raw = [(b"Connection", b"Content-Length, host"), (b"Host", b"h"), (b"Content-Length", b"3")]
    assert end_to_end(raw) == raw[1:]


def test_forwarding_fields_are_added_where_absent():
    assert forwarded([(b"Host", b"h")], "10.0.0.1", "https", b"h") == [
        (b"Host", b"h"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"h"),
    ]


def test_the_last_forwarded_for_is_extended_and_proto_and_host_are_kept():
    raw = [
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"x-forwarded-for", b"2.2.2.2"),
        (b"X-FORWARDED-PROTO", b"https"),
        (b"X-Forwarded-Host", b"outer"),
    ]
    assert forwarded(raw, "::1", "http", b"inner") == [raw[0], (raw[1][0], b"2.2.2.2, ::1"), raw[2], raw[3]]


def test_an_empty_forwarded_for_gets_the_peer_alone():
    assert forwarded([(b"X-Forwarded-For", b"")], "1.2.3.4", "http", b"")[0] == (
        b"X-Forwarded-For",
        b"1.2.3.4",
    )


def test_a_unix_peer_and_a_missing_host_add_nothing():
    assert forwarded([], "", "http", b"") == [(b"X-Forwarded-Proto", b"http")]


def test_first_finds_the_first_of_repeated_fields():
    assert first([(b"A", b"1"), (b"B", b"2"), (b"b", b"3")], b"b") == b"2"
    assert first([], b"b") is None


def test_a_head_is_serialized_byte_for_byte():
    head = serialize(b"GET /\xff HTTP/1.1", [(b"a", b"\xe4\t1"), (b"A", b"")])
    assert head == b"GET /\xff HTTP/1.1\r\na: \xe4\t1\r\nA: \r\n\r\n"


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\0", b"\x1f", b"\x7f"])
def test_a_control_character_anywhere_in_a_head_is_refused(bad):
    for line, name, value in [(bad, b"a", b"b"), (b"l", bad, b"b"), (b"l", b"a", b"x" + bad + b"y")]:
        with pytest.raises(ValueError, match="control character"):
            serialize(line, [(name, value)])


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//a//b",
        "/a/./b/../c",
        "/a%2Fb%2f%",
        "/a;p=1?",
        "/?x=http://h/",
        "/ü\udcff?q=ä#f",
        "*",
        "/http://h/",
    ],
)
def test_origin_form_stays_as_it_is(target):
    assert origin_form("GET", target) == (target.encode("utf-8", "surrogateescape"), None)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://example.com/a//b?c=%20", (b"/a//b?c=%20", b"example.com")),
        ("HTTP://example.com:81", (b"/", b"example.com:81")),
        ("https://u:p@example.com?x=/y", (b"/?x=/y", b"example.com")),
        ("http://[::1]:80/?", (b"/?", b"[::1]:80")),
    ],
)
def test_absolute_form_becomes_origin_form_and_its_authority(target, expected):
    assert origin_form("GET", target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://h", (b"*", b"h")),
        ("http://h:81?", (b"/?", b"h:81")),
        ("http://h/", (b"/", b"h")),
        ("*", (b"*", None)),
    ],
)
def test_options_for_a_host_alone_becomes_the_asterisk(target, expected):
    assert origin_form("OPTIONS", target) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(b"A", b"1"), (b"hOst", b"old"), (b"B", b"2")], [(b"A", b"1"), (b"hOst", b"new"), (b"B", b"2")]),
        ([(b"A", b"1")], [(b"Host", b"new"), (b"A", b"1")]),
    ],
)
def test_another_host_takes_the_place_of_the_one_that_is_there(before, after):
    assert with_host(before, b"new") == after


@pytest.mark.parametrize(
    ("status", "protocol", "kept"),
    [(426, b"WebSocket", True), (426, b"TLS/1.0", False), (200, b"websocket", False)],
)
def test_only_a_426_goes_on_asking_for_websocket(status, protocol, kept):
    raw = [(b"Connection", b"Upgrade"), (b"upgrade", protocol), (b"X", b"1")]
    assert of_response(status, raw) == [(b"X", b"1")] + [(b"upgrade", protocol)] * kept
