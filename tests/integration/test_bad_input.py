"""Bad input gets a clear answer or a close, and a log line; an honest session beside it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from tests.backends import wire
from tests.backends.wire import ClosedError
from tests.integration.conftest import Address, Pair

HASTY = "extends: production\nhttp: {header_deadline_s: 0.5}\n"
GOOD = {
    "Host": "example.test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture
def pair(stands) -> Pair:
    return stands.pair("uvicorn-websockets-sansio", HASTY)


@pytest.fixture
def beside(run, pair: Pair) -> Callable[[Callable[[Address], Awaitable[None]]], None]:
    """Run an attack while an honest session is open; it must echo before and after."""

    def runner(attack: Callable[[Address], Awaitable[None]]) -> None:
        async def main():
            async with await wire.opened(pair.through, "/ws/echo") as honest:
                for text in ("before", "after"):
                    honest.send(wire.text(text))
                    assert await honest.message() == text.encode()
                    if text == "before":
                        pair.gate.mark()
                        await attack(pair.through)
                assert await honest.leave() == []

        run(main())

    return runner


def upgrade(path: str, version: str = "HTTP/1.1", **changes: str | None) -> bytes:
    """A valid upgrade request but for `changes` (underscores are hyphens, None leaves the field out)."""
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in (GOOD | named).items() if value is not None]
    return "\r\n".join([f"GET {path} {version}", *lines, "", ""]).encode()


MALFORMED = {
    "no key": (upgrade("/bad/no-key", Sec_WebSocket_Key=None), {400}),
    "empty key": (upgrade("/bad/empty-key", Sec_WebSocket_Key=""), {400}),
    "short key": (upgrade("/bad/short-key", Sec_WebSocket_Key="c2hvcnQ="), {400}),
    "key that is not base64": (upgrade("/bad/odd-key", Sec_WebSocket_Key="?" * 24), {400}),
    "version 8": (upgrade("/bad/version-8", Sec_WebSocket_Version="8"), {426}),
    "version 99": (upgrade("/bad/version-99", Sec_WebSocket_Version="99"), {426}),
    "no version": (upgrade("/bad/no-version", Sec_WebSocket_Version=None), {400, 426}),
    "no Upgrade": (upgrade("/bad/no-upgrade", Upgrade=None), {400, 426}),
    "HTTP/1.0": (upgrade("/bad/http-10", version="HTTP/1.0"), {400, 426, 505}),
}


@pytest.mark.parametrize(("request_bytes", "statuses"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_upgrade_is_refused_in_words(
    beside, pair, logged, request_bytes: bytes, statuses: set[int]
):
    async def attack(through: Address):
        async with await wire.Wire.dial(through, request_bytes) as client:
            head = await client.head()
            assert head.status in statuses
            if head.status == 426:
                assert head.get("Sec-WebSocket-Version") == "13"
            assert await client.body()

    beside(attack)
    logged(pair.gate, request_bytes.split()[1].decode())


FLOODS = {
    "many headers": b"".join(b"X-%d: x\r\n" % number for number in range(2000)),
    "one endless header": b"X-Long: " + b"x" * 200_000 + b"\r\n",
    "a long header name": b"X" * 100_000 + b": x\r\n",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_headers_is_a_4xx(beside, pair, logged, flood: bytes):
    async def attack(through: Address):
        request = b"GET /bad/flood HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n"
        async with await wire.Wire.dial(through, request) as client:
            assert 400 <= (await client.head()).status < 500

    beside(attack)
    logged(pair.gate, "/bad/flood")


def test_an_endless_request_line_is_a_4xx(beside, pair, logged):
    async def attack(through: Address):
        request = b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        async with await wire.Wire.dial(through, request) as client:
            assert 400 <= (await client.head()).status < 500

    beside(attack)
    logged(pair.gate, "414")


@pytest.mark.parametrize(
    "said", [b"", b"GET /bad/slow HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "half a head"]
)
def test_a_client_that_does_not_finish_its_headers_is_ended_at_the_deadline(
    beside, pair, logged, said: bytes
):
    async def attack(through: Address):
        async with await wire.Wire.dial(through, said) as client:
            try:
                assert (await client.head()).status == 408
            except ClosedError:
                assert not said or client.gone.is_set()
            await client.gone.wait()

    beside(attack)
    logged(pair.gate, "408")


def test_headers_that_trickle_in_do_not_move_the_deadline(beside, pair, logged):
    async def attack(through: Address):
        async with await wire.Wire.dial(through, b"GET /bad/trickle HTTP/1.1\r\nHost: x\r\n") as client:
            while not client.gone.is_set():
                client.send(b"X-More: x\r\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.gone.wait()

    beside(attack)
    logged(pair.gate, "408")


GARBAGE = {
    "binary": bytes(range(256)) * 4,
    "a TLS hello": bytes.fromhex("160301020001fc0303") + bytes(503),
    "words": b"hello, is anybody there?\r\n\r\n",
    "a frame": wire.text("no handshake"),
    "a bad header": b"GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_instead_of_http_is_400_or_a_close(beside, pair, logged, garbage: bytes):
    async def attack(through: Address):
        async with await wire.Wire.dial(through, garbage) as client:
            with contextlib.suppress(ClosedError):
                assert (await client.head()).status in {400, 408}
            await client.gone.wait()

    beside(attack)
    logged(pair.gate)


TAILS = {
    "random bytes": b"\xff" * 300,
    "a reserved opcode": wire.binary(b"x", first=0x83),
    "an unmasked frame": b"\x81\x05hello",
    "a frame of 2^63 bytes": b"\x82\xff" + b"\xff" * 8 + b"mask",
    "a second request": upgrade("/ws/echo"),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_garbage_behind_the_upgrade_ends_that_session_only(beside, pair, logged, tail: bytes):
    async def attack(through: Address):
        async with await wire.Wire.dial(through, wire.upgrade("/ws/echo?tail") + tail) as client:
            client.send(wire.binary(b"x", first=0x83))
            with contextlib.suppress(ClosedError):
                if (await client.head()).status == 101:
                    client.hang_up()
            await client.gone.wait()

    beside(attack)
    logged(pair.gate, "tail")


def test_an_upgrade_to_several_protocols_is_not_taken_for_a_websocket(beside):
    async def attack(through: Address):
        request = upgrade("/ws/echo", Upgrade="websocket, foo")
        async with await wire.Wire.dial(through, request) as client:
            head = await client.head()
            if head.status == 101:
                client.send(wire.text("then it must work"))
                assert await client.message() == b"then it must work"

    beside(attack)
