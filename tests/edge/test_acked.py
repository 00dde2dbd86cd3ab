"""What the kernel says of what we wrote. The gate asks it once whether it says anything at all."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.edge import acked
from proxy.edge.acked import all_acked, measurable
from tests.edge.peers import Backend, Peer, eventually

needs_a_telling_kernel = pytest.mark.skipif(
    not measurable(), reason="this kernel does not tell what was acked"
)


async def connected(backend: Backend) -> tuple[asyncio.Transport, Peer]:
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, "127.0.0.1", backend.port
    )
    return transport, await backend.connection()


@needs_a_telling_kernel
def test_what_arrived_is_acked_whether_or_not_the_peer_has_read_it(run_on_both):
    async def main():
        async with Backend.listening() as backend:
            transport, peer = await connected(backend)
            assert all_acked(transport)
            peer.transport.pause_reading()
            transport.write(b"hello")
            await eventually(lambda: all_acked(transport))
            transport.abort()

    run_on_both(main())


@needs_a_telling_kernel
def test_what_has_no_room_at_the_peer_is_not_acked_until_it_reads(run_on_both):
    async def main():
        async with Backend.listening() as backend:
            transport, peer = await connected(backend)
            peer.transport.pause_reading()
            transport.write(bytes(20_000_000))
            assert not all_acked(transport)
            await asyncio.sleep(0)
            assert not all_acked(transport)
            peer.transport.resume_reading()
            await eventually(lambda: len(peer.raw) == 20_000_000)
            await eventually(lambda: all_acked(transport))
            transport.abort()

    run_on_both(main())


@needs_a_telling_kernel
def test_bytes_in_the_kernel_that_the_peer_has_no_room_for_count_too(run_on_both):
    async def main():
        async with Backend.listening() as backend:
            transport, peer = await connected(backend)
            peer.transport.pause_reading()
            sock = transport.get_extra_info("socket")
            raw = socket.socket(fileno=socket.dup(sock.fileno()))
            sent = 0
            try:
                while True:
                    sent += raw.send(bytes(65536))
            except BlockingIOError:
                assert transport.get_write_buffer_size() == 0  # nothing waits in the process
                assert not all_acked(transport)
            finally:
                raw.close()
                transport.abort()

    run_on_both(main())


def test_a_transport_that_is_closed_or_without_a_socket_is_not_acked(run_on_both):
    class Bare(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return 0

    async def main():
        async with Backend.listening() as backend:
            transport, peer = await connected(backend)
            transport.abort()
            await peer.end()
            await eventually(lambda: not all_acked(transport))
            assert not all_acked(Bare())

    run_on_both(main())


def test_a_kernel_that_always_says_zero_is_found_out(monkeypatch):
    monkeypatch.setattr(acked, "_queued", lambda _: 0)
    assert measurable() is False


def test_a_kernel_that_refuses_to_say_is_found_out(monkeypatch):
    def refuse(_: int) -> int:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(acked, "_queued", refuse)
    assert measurable() is False
