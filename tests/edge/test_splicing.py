"""The pipe between two sockets: what it carries, what comes back, and how it learns that it cannot."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy.edge.splicing import Pipe

ALL = 1 << 20


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe._into)
    os.close(pipe._out)


def pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection over loopback: its far end, and ours, which does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(10)
    return far, near


@pytest.fixture
def source() -> Iterator[tuple[socket.socket, socket.socket]]:
    far, near = pair()
    with closing(far), closing(near):
        yield far, near


@pytest.fixture
def sink() -> Iterator[tuple[socket.socket, socket.socket]]:
    far, near = pair()
    with closing(far), closing(near):
        yield far, near


def arrived(far: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += far.recv(size - len(data))
    return data


def test_head_and_payload_arrive_in_order_and_no_more_is_taken_than_was_asked_for(pipe, source, sink):
    source[0].sendall(b"payload, and the next header")
    assert pipe.carry(b"head ", source[1].fileno(), 7, sink[1].fileno()) == (7, b"", None)
    assert arrived(sink[0], 12) == b"head payload"
    assert source[1].recv(100) == b", and the next header"
    assert pipe.usable


def test_a_source_that_has_nothing_more_costs_nothing(pipe, source, sink):
    assert pipe.carry(b"head", source[1].fileno(), ALL, sink[1].fileno()) == (0, b"", None)
    assert arrived(sink[0], 4) == b"head"
    assert pipe.usable


def test_what_a_full_sink_does_not_take_comes_back_and_the_pipe_is_empty(pipe, source, sink):
    sent, back, passed = b"", b"", 0
    while not back:
        data = os.urandom(50_000)
        source[0].sendall(data)
        moved, back, _ = pipe.carry(b"head", source[1].fileno(), ALL, sink[1].fileno())
        sent += b"head" + data[:moved]
        passed += 4 + moved - len(back)
        assert moved + len(source[1].recv(ALL) if moved < len(data) else b"") == len(data)
    assert arrived(sink[0], passed) + back == sent
    assert pipe.usable
    source[0].sendall(b"next")
    source[1].setblocking(True)
    source[1].recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)
    assert pipe.carry(b"the ", source[1].fileno(), ALL, sink[1].fileno()) == (4, b"", None)
    assert arrived(sink[0], 8) == b"the next"


def test_a_reset_is_told_once_behind_what_came_before_it(pipe, source, sink):
    source[0].sendall(b"last words")
    source[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    source[0].close()
    assert pipe.carry(b"", source[1].fileno(), ALL, sink[1].fileno())[:2] == (10, b"")
    moved, unsent, broken = pipe.carry(b"head", source[1].fileno(), ALL, sink[1].fileno())
    assert (moved, unsent) == (0, b"")
    assert isinstance(broken, ConnectionResetError)
    assert arrived(sink[0], 14) == b"last wordshead"
    assert pipe.usable


def test_a_sink_that_is_gone_gives_everything_back(pipe, source, sink):
    sink[1].shutdown(socket.SHUT_WR)
    source[0].sendall(b"payload")
    assert pipe.carry(b"head ", source[1].fileno(), ALL, sink[1].fileno()) == (7, b"head payload", None)
    assert pipe.usable


def test_a_kernel_that_cannot_is_not_asked_again(pipe, sink):
    what = os.eventfd(0)  # no kernel splices from one
    with os.fdopen(what, closefd=True):
        assert pipe.carry(b"head", what, ALL, sink[1].fileno()) == (0, b"", None)
    assert arrived(sink[0], 4) == b"head"
    assert not pipe.usable
