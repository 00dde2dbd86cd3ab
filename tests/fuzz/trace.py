"""What telemetry reads of a request: any bytes give a valid context or none, and attributes that may be told.

An input is a request target in its first line, then lines of `Name: value`.
"""

from __future__ import annotations

from functools import cache

from opentelemetry.trace import SpanContext

from proxy.telemetry import RequestFacts
from proxy.telemetry.attributes import of_request
from proxy.telemetry.facts import describe
from proxy.telemetry.propagation import Propagation
from tests.fuzz.headers import parsed
from tests.fuzz.target import Target

_LONGEST = 256


@cache
def propagation() -> Propagation:
    return Propagation.from_environment({})


def check(data: bytes) -> None:
    target, pairs = parsed(data)
    context = propagation().extract(pairs)
    if context is not None:
        check_context(context)
    text = target.decode("utf-8", "surrogateescape")
    facts = RequestFacts("GET", text, pairs, peer="192.0.2.1", policy="production", route="*", client="")
    for name, value in of_request(describe(facts)).items():
        assert isinstance(value, str | int), name
        size = len(str(value).encode())  # raises for what is no valid text
        assert size <= _LONGEST, name


def check_context(context: SpanContext) -> None:
    """It is one that W3C Trace Context allows, and what is handed on says the same."""
    assert context.is_valid
    assert context.is_remote
    handed = propagation().inject(context)
    again = propagation().extract(handed)
    assert again is not None
    assert (again.trace_id, again.span_id) == (context.trace_id, context.span_id)
    assert again.trace_flags & 1 == context.trace_flags & 1
    assert dict(again.trace_state) == dict(context.trace_state)
    assert all(b"\r" not in value and b"\n" not in value for _, value in handed)


_ID = b"4bf92f3577b34da6a3ce929d0e0e4736"
TOKENS = (
    b"traceparent: 00-" + _ID + b"-00f067aa0ba902b7-01\n",
    b"traceparent: 01-" + _ID + b"-00f067aa0ba902b7-ff-more\n",
    b"traceparent: 00-" + bytes(32).replace(b"\0", b"0") + b"-00f067aa0ba902b7-00\n",
    b"tracestate: a=1,b@c=2\n",
    b"tracestate: " + b"k" * 256 + b"=v\n",
    b"X-Cloud-Trace-Context: " + _ID + b"/123;o=1\n",
    b"x-cloud-trace-context: " + _ID + b"/18446744073709551616\n",
    b"baggage: a=1;p=2, b=%20\n",
    b"Host: [::1]:8080\n",
    b"User-Agent: a/1 (b)\n",
    b"Sec-WebSocket-Protocol: jwt, eyJhbGciOiJIUzI1NiJ9.e30.x\n",
    b"X-Forwarded-Proto: wss\n",
    b"?token=a&b=http%3A//x/%3Fkey%3D1\n",
    b"\xff",
    b"\xe2\x82\xac",
    b"-",
    b"%25",
)
TARGET = Target("trace", check, TOKENS, share=0.7, longest=2048)
