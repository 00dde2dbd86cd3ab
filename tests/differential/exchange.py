"""One HTTP exchange: what the client does, what the backend answers, and what each saw of the other."""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.backends.launch import Server

Field = tuple[bytes, bytes]  # name and value as on the wire, white space around the value included
Head = tuple[bytes, tuple[Field, ...]]  # first line without its end, and the fields
HANG_S = 5
IN_STEP = b"/in-step"
FOLLOW_UP = b"GET " + IN_STEP + b" HTTP/1.1\r\nHost: h\r\n\r\n"


# What the client does, step by step; bytes are sent as they are.


@dataclass(frozen=True)
class Until:
    """Read until this is among what came."""

    seen: bytes


@dataclass(frozen=True)
class UntilThroughGate:
    """Read until this is among what came, if there is a gate; directly go on at once."""

    seen: bytes


@dataclass(frozen=True)
class BackendHas:
    """Wait until the backend has the request's head, and so much of its body."""

    body_bytes: int = 0


@dataclass(frozen=True)
class Go:
    """Let the backend's step `go` pass."""


@dataclass(frozen=True)
class Leave:
    """The client ends its connection and sees no answer."""

    hard: bool = False


@dataclass(frozen=True)
class Rest:
    """What a client that has its whole answer goes on to send of its body."""

    sent: bytes


@dataclass(frozen=True)
class HalfClose:
    """The client says that it sends no more, and reads on."""


Act = bytes | Until | UntilThroughGate | BackendHas | Go | Leave | Rest | HalfClose
Answer = tuple[str | bytes, ...]  # a backend's steps; bytes are sent as they are

CUT = "cut"  # the connection ended inside the message
WHOLE = "whole"


@dataclass(frozen=True)
class Exchange:
    """What is done on both ways.

    `own`: the difference by which the gate answers this itself, see `allowed.OWN`. `in_step` False: the
    client does not send all of its request, so no other can follow it.
    """

    name: str
    acts: tuple[Act, ...]
    answer: Answer
    own: str = ""
    in_step: bool = True

    @property
    def method(self) -> bytes:
        return self._line[0]

    @property
    def version(self) -> bytes:
        return self._line[-1]

    @property
    def sent_before(self) -> bytes:
        """What is sent of a body of known length before its `Rest`."""
        return b"".join(act for act in self.acts if isinstance(act, bytes)).partition(b"\r\n\r\n")[2]

    @property
    def _line(self) -> list[bytes]:
        sent = b"".join(act for act in self.acts if isinstance(act, bytes)).lstrip()
        return sent.split(b"\r\n")[0].split(b" ")


@dataclass(frozen=True)
class Request:
    """A request as the backend got it."""

    method: bytes
    target: bytes
    version: bytes
    fields: tuple[Field, ...]
    framing: str
    body: bytes
    trailers: bytes
    ending: str
    gone: bool


@dataclass(frozen=True)
class Response:
    """A response as the client got it. `interim`: line and fields of each that came before."""

    status_line: bytes
    fields: tuple[Field, ...]
    framing: str
    body: bytes
    trailers: bytes
    ending: str
    interim: tuple[Head, ...] = ()


@dataclass(frozen=True)
class Seen:
    """Both ends' view. `follow_up`: how a second request on that connection went, "" if none was sent."""

    requests: tuple[Request, ...]
    response: Response | None
    follow_up: str = field(default="", compare=False)


class Orders:
    """The line to the backend's control port."""

    def __init__(self, backend: Server) -> None:
        self._socket = socket.create_connection((backend.host, backend.admin_port), HANG_S)
        self._file = self._socket.makefile("rwb")

    def give(self, **order: Any) -> Any:
        self._file.write(json.dumps(order).encode() + b"\n")
        self._file.flush()
        return json.loads(self._file.readline())

    def answers(self, answer: Answer) -> None:
        steps = [
            ["send", base64.b64encode(step).decode()] if isinstance(step, bytes) else [step]
            for step in answer
        ]
        self.give(answers=[steps])

    def requests(self) -> tuple[Request, ...]:
        return tuple(_request(told) for told in self.give(report=True))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Client:
    """A connection of raw bytes, kept as they came."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, HANG_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen = bytearray()  # all that came
        self.taken = 0  # how much of it is read
        self.ended = ""

    def more(self) -> bool:
        """Read once; False at the end, and then `ended` says which."""
        try:
            part = self.socket.recv(65536)
        except ConnectionResetError:
            self.ended = "reset"
            return False
        self.seen += part
        if not part:
            self.ended = "eof"
        return bool(part)

    def read_until(self, seen: bytes) -> None:
        """Read without taking."""
        while seen not in self.seen:
            assert self.more(), f"the connection ended before {seen!r}: {bytes(self.seen)!r}"

    def until(self, mark: bytes) -> bytes | None:
        """The bytes up to and with `mark`, None if they never come."""
        while (at := self.seen.find(mark, self.taken)) < 0:
            if not self.more():
                return None
        return self._take(at + len(mark) - self.taken)

    def at_most(self, count: int) -> bytes:
        while len(self.seen) - self.taken < count and self.more():
            pass
        return self._take(count)

    def rest(self) -> bytes:
        while self.more():
            pass
        return self._take(len(self.seen))

    def _take(self, count: int) -> bytes:
        part = bytes(self.seen[self.taken : self.taken + count])
        self.taken += len(part)
        return part

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def perform(exchange: Exchange, address: tuple[str, int], orders: Orders, *, gate: bool) -> Seen:
    """Do an exchange with whoever listens at `address`, a `gate` or not; return what both ends saw."""
    orders.answers(exchange.answer)
    client = Client(address)
    try:
        response = _act(exchange, client, orders, gate)
        follow_up = _follow_up(client, response) if response and exchange.in_step else ""
    finally:
        client.socket.close()
    requests = tuple(each for each in orders.requests() if each.target != IN_STEP)
    return Seen(requests, response, follow_up)


def _act(exchange: Exchange, client: Client, orders: Orders, gate: bool) -> Response | None:
    for act in exchange.acts:
        match act:
            case bytes():
                client.socket.sendall(act)
            case Rest(sent):
                client.socket.sendall(sent)
            case HalfClose():
                client.socket.shutdown(socket.SHUT_WR)
            case Until(seen):
                client.read_until(seen)
            case UntilThroughGate(seen):
                if gate:
                    client.read_until(seen)
            case BackendHas(body_bytes):
                orders.give(body=body_bytes)
            case Go():
                orders.give(go=True)
            case Leave(hard):
                client.reset() if hard else client.socket.close()
                return None
    return read_response(client, exchange.method)


def _follow_up(client: Client, response: Response) -> str:
    """Ask once more, where the response says that one may."""
    options = b",".join(value for name, value in response.fields if name.lower() == b"connection").lower()
    stays = response.status_line.startswith(b"HTTP/1.1") or b"keep-alive" in options
    if response.ending == CUT or response.framing == "close" or b"close" in options or not stays:
        return ""
    client.socket.sendall(FOLLOW_UP)
    again = read_response(client, b"GET")
    return "in step" if again and again.body == b"in step" else f"out of step: {again}"


def read_response(client: Client, method: bytes) -> Response | None:
    """Read one response with its interim ones (RFC 9112 section 6.3); None if none came."""
    interim: list[Head] = []
    while (head := client.until(b"\r\n\r\n")) and re.match(rb"HTTP/1\.\d 1(?!01)", head):
        interim.append(split_head(head))
    if head is None:
        return None
    line, fields = split_head(head)
    coding, length = value_of(fields, b"transfer-encoding"), value_of(fields, b"content-length")
    trailers = b""
    if method == b"HEAD" or re.match(rb"HTTP/1\.\d (1|204|304)", line):
        framing, body, ending = "none", b"", WHOLE
    elif coding is not None and coding.strip().lower() == b"chunked":
        framing = "chunked"
        body, trailers, ending = _chunks(client)
    elif length is not None:
        framing, body = "length", client.at_most(int(length))
        ending = WHOLE if len(body) == int(length) else CUT
    else:
        framing, body = "close", client.rest()
        ending = WHOLE if client.ended == "eof" else CUT
    return Response(line, fields, framing, body, trailers, ending, tuple(interim))


def _chunks(client: Client) -> tuple[bytes, bytes, str]:
    body = b""
    while (line := client.until(b"\r\n")) is not None:
        size = int(line.split(b";")[0], 16)
        if not size:
            trailers = b""
            while (line := client.until(b"\r\n")) is not None and line != b"\r\n":
                trailers += line
            return body, trailers, CUT if line is None else WHOLE
        part = client.at_most(size)
        body += part
        if len(part) < size or client.at_most(2) != b"\r\n":
            break
    return body, b"", CUT


def split_head(head: bytes) -> Head:
    """The first line, and the fields with their white space."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = (each.partition(b":") for each in lines)
    return line, tuple((name, value) for name, _, value in pairs)


def value_of(fields: tuple[Field, ...], name: bytes) -> bytes | None:
    """The first value of a field; `name` is lower case."""
    return next((value for key, value in fields if key.lower() == name), None)


def _request(told: dict[str, Any]) -> Request:
    line, fields = split_head(base64.b64decode(told["head"]))
    method, target, version = line.split(b" ")
    return Request(
        method,
        target,
        version,
        fields,
        told["framing"],
        base64.b64decode(told["body"]),
        base64.b64decode(told["trailers"]),
        WHOLE if told["whole"] else CUT,
        told["gone"],
    )
