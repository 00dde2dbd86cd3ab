"""Exchanges in which it matters who does what when: old clients, interim responses, streams, ends."""

from __future__ import annotations

from collections.abc import Iterable

from tests.differential.exchange import (
    BackendHas,
    Exchange,
    Go,
    HalfClose,
    Leave,
    Rest,
    Until,
    UntilThroughGate,
)
from tests.differential.writing import CHUNKED, OK, PACKED, answered, asking, chunks, got, telling

# -- HTTP/1.0 -----------------------------------------------------------------------------------------------


def old_clients() -> Iterable[Exchange]:
    def old(line: bytes, *lines: bytes, host: bytes = b"shop.test", body: bytes = b"") -> bytes:
        return asking(line, *lines, host=host, body=body, version=b"HTTP/1.0")

    yield got("HTTP/1.0", old(b"GET /"))
    yield got("HTTP/1.0 without Host", old(b"GET /", host=b""))
    yield got("HTTP/1.0 with fields", old(b"GET /a?b", b"X-A: 1", b"x-a: 2", b"Cookie: a=1"))
    yield got("HTTP/1.0 that keeps alive", old(b"GET /", b"Connection: keep-alive"))
    yield got("HTTP/1.0 with a body", old(b"POST /", b"Content-Length: 5", body=b"hello"))
    yield got(
        "HTTP/1.0 with Expect", old(b"POST /", b"Content-Length: 5", b"Expect: 100-continue", body=b"hello")
    )
    yield got(
        "HTTP/1.0 and chunks",
        old(b"GET /"),
        answer=("body", telling(b"200 OK", CHUNKED[:-2], body=chunks(b"hel", b"lo"))),
    )
    yield got(
        "HTTP/1.0, keep-alive and chunks",
        old(b"GET /", b"Connection: keep-alive"),
        answer=("body", telling(b"200 OK", CHUNKED[:-2], body=chunks(b"hello"))),
    )
    yield got(
        "HTTP/1.0 until the end",
        old(b"GET /"),
        answer=("body", b"HTTP/1.0 200 OK\r\nX: 1\r\n\r\nuntil the end", "close"),
    )
    yield got(
        "HTTP/1.0 and HEAD", old(b"HEAD /"), answer=("body", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    )
    yield got(
        "HTTP/1.0 and 304", old(b"GET /"), answer=("body", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
    )
    yield got(
        "HTTP/1.0 and early hints",
        old(b"GET /"),
        answer=("body", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK),
    )
    cut = ("body", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\r\nhalf.\r\n", "go", "close")
    yield got("HTTP/1.0 and chunks that break off", old(b"GET /"), Until(b"half."), Go(), answer=cut)


# -- Expect and interim responses ---------------------------------------------------------------------------

EXPECTING = asking(b"POST /", b"Content-Length: 5", b"Expect: 100-continue")
HUNDRED = b"HTTP/1.1 100 Continue\r\n\r\n"


def interim() -> Iterable[Exchange]:
    yield got("Expect, and 100", EXPECTING, Until(HUNDRED), b"hello", answer=(HUNDRED, "body", OK))
    yield got(
        "Expect with chunks, and 100",
        asking(b"PUT /", CHUNKED[:-2], b"expect: 100-Continue"),
        Until(HUNDRED),
        chunks(b"hello"),
        answer=(HUNDRED, "body", OK),
    )
    yield got(
        "Expect, and 100 with fields",
        EXPECTING,
        Until(b"X: 1\r\n\r\n"),
        b"hello",
        answer=(b"HTTP/1.1 100 Go On\r\nX: 1\r\n\r\n", "body", OK),
    )
    yield got("Expect, and the body at once", EXPECTING + b"hello", answer=(HUNDRED, "body", OK))
    yield got("Expect ignored, and the body at once", EXPECTING + b"hello")
    yield got("Expect refused", EXPECTING, answer=(telling(b"401 No", body=b"no"),), in_step=False)
    yield got("Expect refused with 417", EXPECTING, answer=(telling(b"417 No"),), in_step=False)
    yield got(
        "Expect, hints, then 100",
        EXPECTING,
        Until(HUNDRED),
        b"hello",
        answer=(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", HUNDRED, "body", OK),
    )
    yield got("Expect ignored", EXPECTING, UntilThroughGate(HUNDRED), b"hello", answer=("body", OK))
    for head in (b"100 Continue", b"102 Processing", b"103 Early Hints", b"110 Odd", b"199 ", b"103"):
        first = b"HTTP/1.1 " + head + b"\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
        yield answered(f"interim {head.decode()}", first, OK)
        yield answered(f"interim {head.decode()} in one segment", first + first + OK)
        yield got(
            f"interim {head.decode()} first, the rest later",
            asking(b"GET /"),
            Until(b"b.js>\r\n\r\n"),
            Go(),
            answer=("body", first, "go", OK),
        )
    yield got(
        "interim during an upload",
        asking(b"POST /", b"Content-Length: 4") + b"ab",
        Until(b"102 P"),
        b"cd",
        answer=(b"HTTP/1.1 102 Processing\r\n\r\n", "body", OK),
    )
    yield answered(
        "interim before HEAD's answer",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        line=b"HEAD /",
    )
    yield answered(
        "interim before 204",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    )
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    yield got(
        "101 that nobody asked for",
        asking(b"GET /"),
        answer=("body", switched, "close"),
        own="answers that are no HTTP",
    )


def streams() -> Iterable[Exchange]:
    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    event = [b"id: %d\ndata: x%d\n\n" % (number, number) for number in range(3)]
    reading = (Until(event[0]), Go(), Until(event[1]), Go(), Until(event[2]), Go())
    coded = [b"%x\r\n%s\r\n" % (len(each), each) for each in event]
    chunked = (
        "body",
        events + CHUNKED + b"\r\n",
        coded[0],
        "go",
        coded[1],
        "go",
        coded[2],
        "go",
        b"0\r\n\r\n",
    )
    yield got("events in chunks, one by one", asking(b"GET /events"), *reading, answer=chunked)
    until = ("body", events + b"\r\n", event[0], "go", event[1], "go", event[2], "go", "close")
    yield got("events until the end, one by one", asking(b"GET /events"), *reading, answer=until)
    sized = (
        "body",
        events + b"Content-Length: %d\r\n\r\n" % len(b"".join(event)),
        event[0],
        "go",
        event[1],
        "go",
        event[2],
        "go",
    )
    yield got("a body of known length, bit by bit", asking(b"GET /events"), *reading, answer=sized)
    packed = telling(b"200 OK", b"Content-Type: text/event-stream", b"Content-Encoding: gzip", CHUNKED[:-2])
    coded = [b"%x\r\n%s\r\n" % (len(part), part) for part in (PACKED[:5], PACKED[5:])]
    yield got(
        "compressed events, one by one",
        asking(b"GET /"),
        Until(PACKED[:5]),
        Go(),
        answer=("body", packed, coded[0], "go", coded[1], b"0\r\n\r\n"),
    )
    yield got(
        "a head long before its body",
        asking(b"GET /"),
        Until(b"\r\n\r\n"),
        Go(),
        answer=("body", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "go", b"ok"),
    )
    old = asking(b"GET /events", version=b"HTTP/1.0")
    yield got("events for HTTP/1.0, one by one", old, *reading, answer=chunked)
    talk = asking(b"POST /", CHUNKED[:-2])
    both = (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n", b"2\r\nhi\r\n", "body", b"3\r\nbye\r\n0\r\n\r\n")
    yield got(
        "both ways at once", talk, Until(b"hi"), b"5\r\nhello\r\n", BackendHas(5), b"0\r\n\r\n", answer=both
    )


def ends() -> Iterable[Exchange]:
    head = asking(b"POST /", b"Content-Length: 10")
    refusing = telling(b"413 Too Large", body=b"big")
    answered_at_half = (head + b"half.", BackendHas(5), Go(), Until(b"big"))
    yield got("an answer while the body is sent", *answered_at_half, answer=("go", refusing), in_step=False)
    yield got("an answer before any of the body", head, Until(b"big"), answer=(refusing,), in_step=False)
    yield got(
        "an answer before any chunk",
        asking(b"POST /", CHUNKED[:-2]),
        Until(b"big"),
        answer=(refusing,),
        in_step=False,
    )
    closing = telling(b"413 Too Large", b"Connection: close", body=b"big")
    yield got(
        "an answer and the end before the body", head, Until(b"big"), answer=(closing, "close"), in_step=False
    )
    yield got(
        "an answer, then the rest of the body",
        *answered_at_half,
        Rest(b"half."),
        answer=("go", refusing, "body"),
    )
    yield got(
        "a client that half-closes",
        asking(b"GET /"),
        BackendHas(),
        HalfClose(),
        Go(),
        answer=("body", "go", OK),
        own="clients that half-close",
        in_step=False,
    )
    for hard in (False, True):
        how, end = ("reset", "reset") if hard else ("end", "close")
        sized = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf."
        yield got(
            f"a short body, {how}", asking(b"GET /"), Until(b"half."), Go(), answer=("body", sized, "go", end)
        )
        chunked = b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\r\nhalf.\r\n"
        yield got(
            f"chunks without a last one, {how}",
            asking(b"GET /"),
            Until(b"half."),
            Go(),
            answer=("body", chunked, "go", end),
        )
        inside = b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\na\r\nhalf."
        yield got(
            f"inside a chunk, {how}",
            asking(b"GET /"),
            Until(b"half."),
            Go(),
            answer=("body", inside, "go", end),
        )
        yield got(
            f"before the first chunk, {how}",
            asking(b"GET /"),
            Until(b"\r\n\r\n"),
            Go(),
            answer=("body", chunked[:-10], "go", end),
        )
        yield got(
            f"no answer, {how}",
            asking(b"POST /", b"Content-Length: 2", body=b"hi"),
            answer=("body", end),
            own="no answer",
        )
        yield got(
            f"half a head, {how}",
            asking(b"POST /", b"Content-Length: 2", body=b"hi"),
            answer=("body", b"HTTP/1.1 200 OK\r\nX", end),
            own="no answer",
        )
        left = "resets" if hard else "ends"
        yield got(
            f"the client {left} while it waits",
            asking(b"GET /"),
            BackendHas(0),
            Leave(hard),
            answer=("gone",),
        )
        yield got(
            f"the client {left} inside its body",
            head + b"half.",
            BackendHas(5),
            Leave(hard),
            answer=("gone",),
        )
        yield got(
            f"the client {left} inside its chunks",
            asking(b"POST /", CHUNKED[:-2]) + b"5\r\nhalf.\r\n",
            BackendHas(5),
            Leave(hard),
            answer=("gone",),
        )
        events = b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5\r\nfirst\r\n"
        yield got(
            f"the client {left} in an event stream",
            asking(b"GET /"),
            Until(b"first"),
            Leave(hard),
            answer=("body", events, "gone"),
        )
        yield got(
            f"the client {left} in a body",
            asking(b"GET /"),
            Until(b"half."),
            Leave(hard),
            answer=("body", sized, "gone"),
        )
        yield got(
            f"the client {left} while it expects", EXPECTING, BackendHas(0), Leave(hard), answer=("gone",)
        )
    reset = ("body", b"HTTP/1.1 200 OK\r\n\r\nhalf.", "go", "reset")
    yield got("until the end, which is a reset", asking(b"GET /"), Until(b"half."), Go(), answer=reset)
    yield got(
        "no HTTP",
        asking(b"GET /"),
        answer=("body", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "close"),
        own="answers that are no HTTP",
    )
