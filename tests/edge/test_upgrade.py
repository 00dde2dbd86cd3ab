"""What is a WebSocket handshake, and which ones are bad by RFC 6455 4.2.1."""

from __future__ import annotations

import pytest
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from proxy.edge.upgrade import BadUpgrade, asks_for_websocket, check_upgrade
from tests.edge.peers import KEY

GOOD = [
    ("Host", "a"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY.decode()),
]


def asked(*changes: tuple[str, str | None], method: str = "GET", version=HttpVersion11):
    """A request with a good handshake's fields, changed: a value of None removes, others are added."""
    removed = {name for name, value in changes} - {"+"}
    pairs = [pair for pair in GOOD if pair[0] not in removed]
    pairs += [(name, value) for name, value in changes if value is not None]
    return make_mocked_request(method, "/ws", CIMultiDict(pairs), version=version)


@pytest.mark.parametrize(
    "good",
    [
        asked(),
        asked(("Connection", "keep-alive, Upgrade")),
        asked(("Connection", "keep-alive"), ("Connection", "UPGRADE")),
        asked(("Upgrade", "WebSocket")),
        asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")),
    ],
    ids=["plain", "options", "two Connection lines", "case", "another key"],
)
def test_a_good_handshake_gives_its_key(good):
    assert check_upgrade(good) == good.headers["Sec-WebSocket-Key"].encode()


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        (asked(version=HttpVersion10), 400, "HTTP/1.1"),
        (asked(("Upgrade", None)), 426, "Upgrade field"),
        (asked(("Upgrade", "h2c")), 426, "Upgrade field"),
        (asked(("Upgrade", "websocket, h2c")), 426, "Upgrade field"),
        (asked(("Connection", None)), 400, "Connection field"),
        (asked(("Connection", "keep-alive")), 400, "Connection field"),
        (asked(("Connection", "upgraded")), 400, "Connection field"),
        (asked(("Sec-WebSocket-Version", None)), 400, "Version field is missing"),
        (asked(("Sec-WebSocket-Version", "8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Version", "13, 8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8")), 426, "version 13"),
        (asked(("Sec-WebSocket-Key", None)), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAA")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "AAAAAAAAAAAA AAAAAAAAAA==")), 400, "Sec-WebSocket-Key"),
        (asked(("Sec-WebSocket-Key", "é" * 22 + "==")), 400, "Sec-WebSocket-Key"),
        (
            asked(("Sec-WebSocket-Key", KEY.decode()), ("Sec-WebSocket-Key", KEY.decode())),
            400,
            "Sec-WebSocket-Key",
        ),
    ],
)
def test_each_rule_of_rfc_6455_section_4_2_1_has_its_answer(bad, status, reason):
    with pytest.raises(BadUpgrade, match=reason) as caught:
        check_upgrade(bad)
    response = caught.value.response()
    assert response.status == status
    assert response.headers["Sec-WebSocket-Version"] == "13"
    assert response.content_type == "application/problem+json"
    assert ("Upgrade" in response.headers) == (status == 426)


@pytest.mark.parametrize(
    ("some", "means_to"),
    [
        (asked(), True),
        (asked(("Sec-WebSocket-Key", None)), True),
        (asked(("Sec-WebSocket-Version", None)), True),
        (asked(("Upgrade", None), ("Connection", None)), True),
        (asked(("Sec-WebSocket-Key", None), ("Sec-WebSocket-Version", None)), False),
        (asked(method="POST"), False),
        (asked(method="HEAD"), False),
    ],
    ids=["whole", "no key", "no version", "no hop fields", "only hop fields", "POST", "HEAD"],
)
def test_a_request_means_to_be_a_handshake_by_its_method_and_its_own_fields(some, means_to):
    assert asks_for_websocket(some) is means_to
