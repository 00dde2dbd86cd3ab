from __future__ import annotations

from proxy.edge.dial import Response
from proxy.edge.switching import Offer, eager_response, mirrored_response

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OFFER = Offer(
    target=b"/ws?x=1",
    key=KEY,
    headers=(
        (b"Host", b"a"),
        (b"Sec-WebSocket-Key", KEY),
        (b"sec-websocket-PROTOCOL", b"chat, other"),
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
        (b"TraceParent", b"theirs"),
        (b"X-Unknown", b"\xe9"),
    ),
    subprotocols=("chat", "other"),
)


def test_what_was_agreed_alone_is_what_the_upstream_is_offered():
    agreed = OFFER.agreed("other")
    assert agreed.headers == (
        (b"Host", b"a"),
        (b"Sec-WebSocket-Key", KEY),
        (b"TraceParent", b"theirs"),
        (b"X-Unknown", b"\xe9"),
        (b"Sec-WebSocket-Protocol", b"other"),
    )
    assert (agreed.target, agreed.key) == (OFFER.target, OFFER.key)


def test_where_no_subprotocol_was_agreed_none_is_offered():
    assert not [name for name, _ in OFFER.agreed(None).headers if b"rotocol" in name or b"xtensions" in name]


def test_our_trace_context_takes_the_place_of_the_clients():
    fields = OFFER.fields({b"traceparent", b"tracestate"}, [(b"traceparent", b"ours")])
    assert [pair for pair in fields if pair[0].lower() == b"traceparent"] == [(b"traceparent", b"ours")]
    assert (b"X-Unknown", b"\xe9") in fields


def test_where_nothing_is_traced_the_clients_context_passes():
    assert OFFER.fields({b"traceparent"}, []) == list(OFFER.headers)


def test_the_mirrored_101_keeps_every_end_to_end_field_in_order():
    response = Response(
        101,
        "Web Socket Protocol Handshake",
        (
            (b"upgrade", b"WebSocket"),
            (b"Set-Cookie", b"a=1"),
            (b"CONNECTION", b"upgrade, X-Hop"),
            (b"X-Hop", b"dropped"),
            (b"Set-Cookie", b"b=\xe9"),
            (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ),
    )
    assert mirrored_response(response) == (
        b"HTTP/1.1 101 Web Socket Protocol Handshake\r\nSet-Cookie: a=1\r\nSet-Cookie: b=\xe9\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )


def test_our_own_101_has_no_extensions_and_the_agreed_subprotocol():
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    assert eager_response(OFFER, None) == head + accept + b"\r\n"
    assert eager_response(OFFER, "chat") == head + accept + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
