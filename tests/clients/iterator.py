"""Clients on the reconnect iterator of `websockets`, as its documentation shows it: `... KIND NAME=URL ...`

They do and print what those of `tests/backends/node/clients.js` do, and `NAME waits` when the library asks
for a delay. All settings are its defaults, but for a shorter back-off, and for what the kind's name says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from websockets.asyncio.client import connect, process_exception
from websockets.exceptions import ConnectionClosed, InvalidStatus

SOON_S = 0.1


def also_429(error: Exception) -> Exception | None:
    """Take 429 for a passing trouble, as the library takes 503."""
    if isinstance(error, InvalidStatus) and error.response.status_code == 429:
        return None
    return process_exception(error)


KINDS = {"websockets": {}, "websockets, told to retry": {"process_exception": also_429}}


async def client(name: str, url: str, options: dict) -> None:
    """Say our name whenever we are connected; leave when we were answered after coming back."""

    def delays() -> Iterator[float]:
        while True:
            print(name, "waits")
            yield SOON_S

    openings = 0
    # No proxy: one that this machine's environment names is not for loopback.
    async for ws in connect(url, proxy=None, reconnect_delays=delays, **options):
        openings += 1
        print(name, "opened")
        try:
            await ws.send(name)
            async for message in ws:
                print(name, "heard", message)
                if openings > 1:
                    print(name, "left")
                    await ws.close()
                    return
        except ConnectionClosed:
            pass
        print(name, "closed", ws.close_code)


async def until_it_ends(name: str, url: str, options: dict) -> None:
    try:
        await client(name, url, options)
    except Exception as error:
        print(name, "gave up", error)


async def main(kind: str, *named: str) -> None:
    pairs = (word.partition("=") for word in named)
    await asyncio.gather(*(until_it_ends(name, url, KINDS[kind]) for name, _, url in pairs))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
