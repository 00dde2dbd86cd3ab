"""Which heads are passed on. What the parser refuses before is in tests/hostile/."""

from __future__ import annotations

import pytest

from proxy.guard import request_fault, response_is_clear

MODERN = (1, 1)


def status(target: str = "/", version: tuple[int, int] = MODERN, *headers: tuple[bytes, bytes]) -> int | None:
    fault = request_fault(target, version, headers)
    return None if fault is None else fault.status


@pytest.mark.parametrize(
    "target", ["/", "/a?b=//c", "*", "http://a/b", "HTTPS://a", "ws://a/", "wss://a/", "/a://b", "/?ftp://x"]
)
def test_a_path_and_an_authority_of_ours_are_targets(target: str):
    assert status(target) is None


@pytest.mark.parametrize("target", ["/#", "/a?b#c", "http://a/#b", "ftp://a/b", "file:///etc/passwd"])
def test_a_fragment_or_another_scheme_is_none(target: str):
    assert status(target) == 400


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_other_versions_are_not_spoken(version: tuple[int, int]):
    assert status("/", version) == 505


@pytest.mark.parametrize(
    "name",
    [
        b"Content_Length",
        b"TRANSFER_ENCODING",
        b"X_Forwarded_For",
        b"x.forwarded.proto",
        b"Sec_WebSocket_Key",
        b"X-Real_IP",
    ],
)
def test_a_name_that_becomes_one_of_ours_in_an_environment_is_refused(name: bytes):
    assert status("/", MODERN, (name, b"1")) == 400


@pytest.mark.parametrize(
    "name", [b"api_key", b"X_Custom", b"X-Forwarded-For", b"Sec-WebSocket-Key", b"x.y", b"_"]
)
def test_other_names_with_underscores_are_left_alone(name: bytes):
    assert status("/", MODERN, (name, b"1")) is None


def test_a_length_has_63_bits():
    assert status("/", MODERN, (b"Content-Length", b"9223372036854775807")) is None
    assert status("/", MODERN, (b"content-length", b"9223372036854775808")) == 413


@pytest.mark.parametrize(("digits", "answer"), [(b"0" * 5000 + b"1", None), (b"1" + b"0" * 5000, 413)])
def test_a_length_may_have_more_digits_than_python_reads(digits: bytes, answer: int | None):
    assert status("/", MODERN, (b"Content-Length", digits)) == answer
    assert response_is_clear(200, [(b"Content-Length", digits)]) is (answer is None)


def test_http_1_0_has_no_transfer_coding():
    coding = (b"Transfer-Encoding", b"chunked")
    assert status("/", (1, 0), coding) == 400
    assert status("/", MODERN, coding) is None


LENGTH, CODING = (b"Content-Length", b"2"), (b"Transfer-Encoding", b"Chunked")


@pytest.mark.parametrize("headers", [[], [LENGTH], [CODING], [(b"X_Y", b"\xff")]])
def test_a_response_with_one_framing_or_none_is_clear(headers: list[tuple[bytes, bytes]]):
    assert response_is_clear(200, headers)


@pytest.mark.parametrize(
    "headers",
    [
        [LENGTH, LENGTH],
        [CODING, CODING],
        [LENGTH, CODING],
        [(b"Content-Length", b"2, 2")],
        [(b"Content-Length", b"")],
        [(b"Content-Length", b"9223372036854775808")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Content-Length ", b"2")],
        [(b"", b"2")],
        [(b"X(", b"2")],
    ],
)
def test_a_response_with_another_framing_or_an_odd_name_is_not(headers: list[tuple[bytes, bytes]]):
    assert not response_is_clear(200, headers)


def test_a_status_below_100_is_none():
    assert not response_is_clear(0, [])
    assert not response_is_clear(99, [])
    assert response_is_clear(999, [])
