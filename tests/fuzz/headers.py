"""The pure functions that read a request: they never raise but what they say, and keep to the RFCs.

An input is a request target in its first line, then lines of `Name: value`.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections import Counter
from types import SimpleNamespace

from aiohttp.http import HttpVersion11
from multidict import CIMultiDict

from proxy.edge.accept import BadUpgrade, asks_for_websocket, check_upgrade
from proxy.edge.headers import (
    Pair,
    end_to_end,
    first,
    forwarded,
    of_response,
    origin_form,
    serialize,
    with_host,
    without_forwarded,
)
from proxy.guard import asked_host, bad_host, client_address, head_bytes, host_denied, origin_denied
from proxy.guard.heads import request_fault, response_is_clear
from tests.fuzz.target import Target

_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_PEER = "192.0.2.1"
_CONTROL = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")


def parsed(data: bytes) -> tuple[bytes, list[Pair]]:
    """Return the target and the fields of an input, as leniently as any parser could read them."""
    head, *fields = data.split(b"\n")
    pairs = [
        (name, value.strip(b" \t"))
        for name, colon, value in (line.partition(b":") for line in fields)
        if name
    ]
    return head, pairs


def check(data: bytes) -> None:
    target, pairs = parsed(data)
    text = target.decode("utf-8", "surrogateescape")
    check_target(target, text)
    check_end_to_end(pairs)
    check_forwarded(pairs)
    check_serialized(target, pairs)
    check_client(pairs)
    check_heads(text, pairs)
    check_door(pairs)
    check_guard(target, pairs)


def check_target(target: bytes, text: str) -> None:
    line, authority = origin_form("GET", text)
    if authority is None:
        assert line == target, "what is no absolute form stays as it is"
        return
    assert line.startswith(b"/")
    assert target.endswith((line, line[1:]))
    assert not set(authority) & set(b"/?#@")
    assert authority in target
    assert origin_form("GET", line.decode("utf-8", "surrogateescape")) == (line, None)


def check_end_to_end(pairs: list[Pair]) -> None:
    kept = end_to_end(pairs)
    names = {name.lower() for name, _ in kept}
    assert not names & _HOP
    assert end_to_end(kept) == kept
    rest = iter(pairs)
    assert all(pair in rest for pair in kept), "order, case and repetition are kept"
    named = {
        option.strip(b" \t").lower()
        for name, value in pairs
        if name.lower() == b"connection"
        for option in value.split(b",")
    } - {b"host", b"content-length"}
    gone = Counter(pairs) - Counter(kept)
    assert all(name.lower() in _HOP | named for name, _ in gone), "nothing else is dropped"
    assert not names & named


def check_forwarded(pairs: list[Pair]) -> None:
    host = first(pairs, b"host") or b""
    told = forwarded(pairs, _PEER, "http", host)
    names = [name.lower() for name, _ in told]
    lists = [value for name, value in told if name.lower() == b"x-forwarded-for"]
    assert lists
    assert lists[-1].endswith(_PEER.encode()), "whom we heard it from stands last"
    assert b"x-forwarded-proto" in names
    assert not host or b"x-forwarded-host" in names
    others = [pair for pair in told if not pair[0].lower().startswith(b"x-forwarded-")]
    assert others == [pair for pair in pairs if not pair[0].lower().startswith(b"x-forwarded-")]


def check_serialized(target: bytes, pairs: list[Pair]) -> None:
    start = b"GET " + target + b" HTTP/1.1"
    lines = [start, *(name + b": " + value for name, value in pairs)]
    try:
        wire = serialize(start, pairs)
    except ValueError:
        assert any(_CONTROL.search(line) for line in lines)
        return
    assert wire.split(b"\r\n") == [*lines, b"", b""], "nothing of it ends a line early"
    assert head_bytes("GET", target.decode("utf-8", "surrogateescape"), pairs) == len(wire)


def check_heads(text: str, pairs: list[Pair]) -> None:
    """What is passed on has one end, in either direction."""
    lengths = [value for name, value in pairs if name.lower() == b"content-length"]
    if all(re.fullmatch(rb"\d+", value) for value in lengths):  # the parser sees to it
        fault = request_fault(text, (1, 1), pairs)
        large = any(int(value[-4000:]) >= 1 << 63 for value in lengths)
        assert fault is not None or not (large or "#" in text)
        assert fault is None or fault.status in {400, 413}
    codings = [value for name, value in pairs if name.lower() == b"transfer-encoding"]
    if response_is_clear(200, pairs):
        assert len(lengths) + len(codings) <= 1
    assert not response_is_clear(99, pairs)


def check_client(pairs: list[Pair]) -> None:
    for hops in (0, 1, 2, 9):
        told = client_address(pairs, _PEER, hops)
        assert told == _PEER or (hops and str(ipaddress.ip_address(told)) == told)


def check_door(pairs: list[Pair]) -> None:
    """Judge a handshake by RFC 6455 4.2.1, and beside it by the same rules in other words."""
    fields = CIMultiDict(
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        for name, value in pairs
    )
    request = SimpleNamespace(method="GET", headers=fields, version=HttpVersion11, body_exists=False)
    keys, versions = fields.getall("Sec-WebSocket-Key", []), fields.getall("Sec-WebSocket-Version", [])
    assert asks_for_websocket(request) == bool(keys or versions)
    try:
        key, status = check_upgrade(request), 101
    except BadUpgrade as bad:
        key, status = b"", bad.response().status
    options = [
        option.strip().lower() for value in fields.getall("Connection", []) for option in value.split(",")
    ]
    good = (
        fields.get("Upgrade", "").strip().lower() == "websocket"
        and "upgrade" in options
        and versions == ["13"]
        and len(keys) == 1
        and re.fullmatch(r"[A-Za-z0-9+/]{22}==", keys[0], re.ASCII) is not None
    )
    assert bool(key) == good
    assert status in ({101} if good else {400, 426})
    if key:
        assert len(base64.b64decode(key)) == 16


def check_guard(target: bytes, pairs: list[Pair]) -> None:
    """Only what is listed is let in, however it is written, and nothing is said with two hosts."""
    texts = [target.decode("utf-8", "surrogateescape"), *(value.decode("latin-1") for _, value in pairs)]
    for text in texts:
        bad_host([text], text, required=True)
        assert bad_host([text, text], text, required=True) is not None
        if host_denied({"a.test"}, text) is None:
            assert re.fullmatch(r"a\.test\.?(:\d*)?", text.lower(), re.ASCII), text
        if origin_denied({"https://a.test"}, [text], "b.test") is None:
            assert re.fullmatch(r"https://a\.test\.?(:443)?", text.lower(), re.ASCII), text
        assert origin_denied({"https://a.test"}, [text, text], "b.test") is not None
        origin_denied({"same"}, [text], text)
    for hops in (0, 1, 9):
        asked_host(pairs, "b.test", hops)
    named = with_host(pairs, b"b.test")
    assert all(value == b"b.test" for name, value in named if name.lower() == b"host")
    assert [pair for pair in named if pair[0].lower() != b"host"] == [
        pair for pair in pairs if pair[0].lower() != b"host"
    ]
    assert client_address(without_forwarded(pairs), _PEER, 9) == _PEER
    assert of_response(426, pairs)[: len(end_to_end(pairs))] == end_to_end(pairs)


TOKENS = (
    b"a.test",
    b"https://a.test:443",
    b"Origin: https://a.test\n",
    b"Host: A.test.:80\n",
    b"X-Forwarded-Host: a.test, b.test\n",
    b"Connection: Upgrade\n",
    b"Connection: close, X-A\n",
    b"connection: content-length, host,,\n",
    b"Upgrade: websocket\n",
    b"Sec-WebSocket-Version: 13\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n",
    b"X-Forwarded-For: 10.0.0.1, [2001:db8::1]:80\n",
    b"x-forwarded-for: ::ffff:1.2.3.4, fe80::1%eth0\n",
    b"X-Forwarded-For:\n",
    b"X-A: b\n",
    b"Host: a\n",
    b"Content-Length: 5\n",
    b"content-length: " + b"0" * 30 + b"9223372036854775808\n",
    b"Content_Length: 1\n",
    b"Transfer-Encoding: chunked\n",
    b"http://u@h:80/p?q\n",
    b"\r",
    b"\xff",
    b"\x0b",
)
TARGET = Target("headers", check, TOKENS, share=0.7, longest=2048)
