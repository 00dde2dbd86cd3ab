"""A backend that answers in a way that two clients might take differently: 502, or passed on made clear."""

from __future__ import annotations

import pytest

from tests.hostile.conftest import Stand
from tests.hostile.peer import upgrade

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANOTHER = b"HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\nContent-Length: 0\r\n\r\n"

UNCLEAR = {
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 59\r\n\r\nok" + ANOTHER,
    "two lengths that agree": OK + b"Content-Length: 2\r\n" + SIZED,
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "length, then chunked": OK
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + ANOTHER,
    "chunked, then length": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"
    + ANOTHER,
    "two codings": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "gzip, then chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "a negative length": OK + b"Content-Length: -1\r\n\r\nok",
    "a signed length": OK + b"Content-Length: +2\r\n\r\nok",
    "an empty length": OK + b"Content-Length: \r\n\r\nok",
    "a length of 2^64 - 1": OK + b"Content-Length: 18446744073709551615\r\n\r\nok",
    "a folded length": OK + b"Content-Length: 2\r\n 0\r\n\r\nok",
    "a space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "NUL": OK + b"X-A: a\0b\r\n" + SIZED,
    "SOH": OK + b"X-A: a\x01b\r\n" + SIZED,
    "a carriage return": OK + b"X-A: a\rX-B: b\r\n" + SIZED,
    "a carriage return in the reason": b"HTTP/1.1 200 O\rX-B: b\r\n" + SIZED,
    "a name with a space": OK + b"X A: a\r\n" + SIZED,
    "no colon": OK + b"nothing\r\n" + SIZED,
    "status 000": b"HTTP/1.1 000 OK\r\n" + SIZED,
    "status 99": b"HTTP/1.1 99 OK\r\n" + SIZED,
    "status 1000": b"HTTP/1.1 1000 OK\r\n" + SIZED,
    "no HTTP": b"hello\r\n\r\n",
    "an endless field": OK + b"X-A: " + b"a" * 200_000,
    "an endless reason": b"HTTP/1.1 200 " + b"a" * 200_000,
    "many fields": OK + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + SIZED,
    "no chunk size": CHUNKED + b"zz\r\nok\r\n0\r\n\r\n",
    "a chunk of 2^64": CHUNKED + b"10000000000000000\r\nok\r\n",
}
CLEARED = {
    "line feeds": (OK.replace(b"\r", b"") + b"X-A: b\nContent-Length: 2\n\nok", b"ok"),
    "a fold": (OK + b"X-A: a\r\n b\r\n" + SIZED, b"ok"),
    "spaces behind a chunk size": (CHUNKED + b"2  \r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "a chunk extension": (CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX-T: a\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "another response behind it": (OK + SIZED + ANOTHER, b"ok"),
}
each_unclear = pytest.mark.parametrize("said", UNCLEAR.values(), ids=UNCLEAR)
each_cleared = pytest.mark.parametrize(("said", "body"), CLEARED.values(), ids=CLEARED)


@each_unclear
def test_an_unclear_response_is_a_502(stand: Stand, said: bytes):
    stand.backend.answers = lambda _: said
    with stand.peer() as peer:
        peer.send(b"GET /a HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
        (answer,) = peer.responses(1)
        assert answer.start[0] == b"502"
        assert b"Smuggled" not in peer.end()


@each_cleared
def test_a_response_that_can_be_made_clear_is_passed_on_so(stand: Stand, said: bytes, body: bytes):
    stand.backend.answers = lambda _: said
    with stand.peer() as peer:
        peer.send(b"GET /a HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
        assert [answer.start[0] for answer in peer.responses(1)] == [b"200"]
        assert peer.end().endswith(b"\r\n\r\n" + body)


def test_interim_responses_without_number_hide_none_behind_them(stand: Stand):
    stand.backend.answers = lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000 + OK + SIZED
    with stand.peer() as peer:
        peer.send(b"GET /a HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
        said = peer.end()
        heads = said.split(b"\r\n\r\n")
        assert {head.split(b" ")[1] for head in heads[:-2]} == {b"103"}
        assert heads[-2].startswith(b"HTTP/1.1 200")
        assert heads[-1] == b"ok"


@each_unclear
def test_an_unclear_rejection_of_an_upgrade_is_a_503(stand: Stand, said: bytes):
    """The try has failed, as if the backend had ended; when tries run out that is a 503."""
    stand.backend.upgraded = lambda _: said  # type: ignore[method-assign]
    try:
        with stand.peer() as peer:
            peer.send(upgrade())
            (answer,) = peer.responses(1)
            assert answer.start[0] == b"503"
            assert b"Smuggled" not in peer.end()
    finally:
        del stand.backend.upgraded


BROKEN = {
    "an upgrade": (upgrade(), b"403 No"),
    "plain HTTP": (b"GET /a HTTP/1.1\r\nHost: example.test\r\n\r\n", b"200 OK"),
}


@pytest.mark.parametrize(("asked", "status"), BROKEN.values(), ids=BROKEN)
def test_a_response_that_breaks_in_its_body_is_cut(stand: Stand, asked: bytes, status: bytes):
    begun = CHUNKED.replace(b"200 OK", status) + b"2\r\nok\r\n"
    stand.backend.answers = stand.backend.upgraded = lambda _: begun  # type: ignore[method-assign]
    try:
        with stand.peer() as peer:
            peer.send(asked)
            peer.until(b"ok\r\n")
            (heard,) = stand.backend.connections
            stand.backend.loop.call_soon_threadsafe(heard.transport.write, b"zz\r\n")
            assert peer.end().endswith(b"ok\r\n")
    finally:
        del stand.backend.upgraded
