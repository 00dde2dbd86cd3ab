"""The differences that a gate may make, each with its name in the tables of docs/http.md.

`REQUEST_RULES` and `RESPONSE_RULES` turn what a direct exchange was like into what it must be like through
the gate; nothing else may differ. `OWN` are those that the gate answers itself. One test compares the names
with the page, another sees that none stands there in vain.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.differential.exchange import (
    CUT,
    Exchange,
    Field,
    Head,
    Request,
    Response,
    Rest,
    Seen,
    UntilThroughGate,
    value_of,
)

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
PEER = b"127.0.0.1"
CONTINUE = b"HTTP/1.1 100 Continue"


@dataclass(frozen=True)
class Way:
    """One exchange, and where the gate sends it."""

    exchange: Exchange
    upstream: bytes

    @property
    def modern(self) -> bool:
        return self.exchange.version == b"HTTP/1.1"


ForRequest = Callable[[Request, Way], Request]
ForResponse = Callable[[Response, Way], Response]


# -- requests -----------------------------------------------------------------------------------------------


def _end_to_end(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    named = b",".join(value for name, value in fields if name.lower() == b"connection").lower()
    drop = HOP_BY_HOP | ({option.strip() for option in named.split(b",")} - {b"host", b"content-length"})
    return tuple(pair for pair in fields if pair[0].lower() not in drop)


def _trimmed(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple((name, b" " + value.strip(b" \t")) for name, value in fields)


def request_hop(seen: Request, way: Way) -> Request:
    return replace(seen, fields=_end_to_end(seen.fields))


def request_space(seen: Request, way: Way) -> Request:
    return replace(seen, fields=_trimmed(seen.fields))


def request_target(seen: Request, way: Way) -> Request:
    match = re.match(rb"[A-Za-z][\w+.-]*://([^/?#]*)(.*)", seen.target, re.DOTALL)
    if not match:
        return seen
    authority, rest = match[1].rpartition(b"@")[2], match[2]
    asterisk = seen.method == b"OPTIONS" and not rest
    target = b"*" if asterisk else rest if rest.startswith(b"/") else b"/" + rest
    fields = tuple(
        (name, b" " + authority if name.lower() == b"host" else value) for name, value in seen.fields
    )
    if value_of(fields, b"host") is None:
        fields = ((b"Host", b" " + authority), *fields)
    return replace(seen, target=target, fields=fields)


def request_version(seen: Request, way: Way) -> Request:
    if seen.version == b"HTTP/1.1":
        return seen
    fields = tuple(pair for pair in seen.fields if pair[0].lower() != b"expect")
    if value_of(fields, b"host") is None:
        fields = ((b"Host", b" " + way.upstream), *fields)
    return replace(seen, version=b"HTTP/1.1", fields=fields)


def request_forwarding(seen: Request, way: Way) -> Request:
    fields, names = list(seen.fields), [name.lower() for name, _ in seen.fields]
    if b"x-forwarded-for" in names:
        at = len(names) - 1 - names[::-1].index(b"x-forwarded-for")
        name, value = fields[at]
        fields[at] = (name, value + b", " + PEER if value.strip() else b" " + PEER)
    else:
        fields.append((b"X-Forwarded-For", b" " + PEER))
    if b"x-forwarded-proto" not in names:
        fields.append((b"X-Forwarded-Proto", b" http"))
    host = value_of(seen.fields, b"host")
    if host and host.strip() and b"x-forwarded-host" not in names:
        fields.append((b"X-Forwarded-Host", host))
    return replace(seen, fields=tuple(fields))


def request_answered(seen: Request, way: Way) -> Request:
    rest = any(isinstance(act, Rest) for act in way.exchange.acts)
    return replace(seen, body=way.exchange.sent_before, ending=CUT) if rest else seen


def request_trailers(seen: Request, way: Way) -> Request:
    return replace(seen, trailers=b"")


# -- responses ----------------------------------------------------------------------------------------------


def _each_head(seen: Response, rule: Callable[[bytes, tuple[Field, ...]], Head]) -> Response:
    """Change the response's own head and the interim ones alike."""
    line, fields = rule(seen.status_line, seen.fields)
    interim = tuple(rule(*head) for head in seen.interim)
    return replace(seen, status_line=line, fields=fields, interim=interim)


def response_line(seen: Response, way: Way) -> Response:
    def told(line: bytes, fields: tuple[Field, ...]) -> Head:
        _, status, *reason = line.split(b" ", 2)
        return b" ".join([way.exchange.version, status, reason[0] if reason else b""]), fields

    return _each_head(seen, told)


def response_hop(seen: Response, way: Way) -> Response:
    def rest(line: bytes, fields: tuple[Field, ...]) -> Head:
        asks = [(b"upgrade", b"websocket")] if line.split(b" ")[1] == b"426" else []
        kept = [pair for pair in fields if (pair[0].lower(), pair[1].strip().lower()) in asks]
        return line, (*_end_to_end(fields), *kept[:1])

    return _each_head(seen, rest)


def response_space(seen: Response, way: Way) -> Response:
    return _each_head(seen, lambda line, fields: (line, _trimmed(fields)))


def response_framing(seen: Response, way: Way) -> Response:
    if seen.framing in {"chunked", "close"}:
        return replace(seen, framing="chunked" if way.modern else "close")
    return seen


def response_trailers(seen: Response, way: Way) -> Response:
    return replace(seen, trailers=b"")


def response_continue(seen: Response, way: Way) -> Response:
    waits = any(isinstance(act, UntilThroughGate) for act in way.exchange.acts)
    return replace(seen, interim=((CONTINUE, ()), *seen.interim)) if waits else seen


def response_interim(seen: Response, way: Way) -> Response:
    return seen if way.modern else replace(seen, interim=())


REQUEST_RULES: dict[str, ForRequest] = {
    "hop-by-hop fields of a request": request_hop,
    "absolute-form": request_target,
    "white space around a request's values": request_space,
    "forwarding fields": request_forwarding,
    "HTTP/1.0 from a client": request_version,
    "trailers of a request": request_trailers,
    "uploads beyond their answer": request_answered,
}
RESPONSE_RULES: dict[str, ForResponse] = {
    "status line": response_line,
    "hop-by-hop fields of a response": response_hop,
    "white space around a response's values": response_space,
    "framing of a response": response_framing,
    "trailers of a response": response_trailers,
    "interim responses for HTTP/1.0": response_interim,
    "100 Continue of the gate": response_continue,
}

NOTHING = 0  # instead of a status: the connection ends
# What the gate answers itself: with which status, and whether the backend gets the request all the same.
OWN: dict[str, tuple[int, bool]] = {
    "paths of the gate": (404, False),
    "unknown methods": (400, False),
    "CONNECT": (405, False),
    "targets beyond ASCII": (400, False),
    "fragments": (400, False),
    "no valid Host, or two": (400, False),
    "fields that come once": (400, False),
    "fields beyond their number": (400, False),
    "heads beyond the limits": (431, False),
    "no answer": (502, True),
    "answers that are no HTTP": (502, True),
    "answers beyond the limits": (502, True),
    "clients that half-close": (NOTHING, True),
}


def expected(direct: Seen, way: Way) -> tuple[Seen, set[str]]:
    """What must be seen through the gate after `direct` was seen without, and the rules that made it so."""
    used: set[str] = set()
    requests = []
    for received in direct.requests:
        request = received
        for name, rule in REQUEST_RULES.items():
            changed = rule(request, way)
            used |= {name} if changed != request else set()
            request = changed
        requests.append(request)
    response = direct.response
    for name, rule in RESPONSE_RULES.items():
        if response is not None:
            changed = rule(response, way)
            used |= {name} if changed != response else set()
            response = changed
    return Seen(tuple(requests), response), used


def comparable(through: Seen) -> Seen:
    """What was seen through the gate, without the fields of the hop: the gate makes them anew for its own."""

    def rest(fields: tuple[Field, ...], hop: set[bytes]) -> tuple[Field, ...]:
        return tuple(pair for pair in fields if pair[0].lower() not in hop)

    requests = tuple(
        replace(each, fields=rest(each.fields, {b"transfer-encoding"})) for each in through.requests
    )
    response = through.response
    if response is not None:
        response = replace(response, fields=rest(response.fields, {b"transfer-encoding", b"connection"}))
    return Seen(requests, response)
