"""Takes the pictures of docs/live-page.md: a real gate before a real application with good and bad visitors.

`make screenshots`, or `python -m tests.page.screenshots [FOLDER]`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import uvloop

from tests.backends import front, launch, wire
from tests.page import mix
from tests.page.browser import chromium, page_of

FOLDER = launch.ROOT / "docs/img"
DESKTOP, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 844}
AGENT = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
COLD_S = 1.2


async def cold_start(gate: mix.Address, backend: Awaitable[launch.Server]) -> launch.Server:
    """Visitors come while the backend is still down: refused, redialled, served."""
    early = [asyncio.create_task(mix.talk(gate, f"/ws/echo?room={room}", AGENT)) for room in range(6)]
    await asyncio.sleep(COLD_S)
    server = await backend
    await asyncio.gather(*early)
    return server


async def ordinary_day(gate: mix.Address) -> list[wire.Wire]:
    """Most are served at once; some are slow, some are turned away, some leave, some never answer pings."""
    dice, staying = random.Random(7), []
    rare = ["slow", "greet", "crash", "slow", "mute", "announce", "denied", "left", "greet", "late", "mute"]
    kinds = [kind for each in (*rare, *rare) for kind in (each, *["echo"] * dice.randrange(5))]
    for number, kind in enumerate(
        [*kinds, "mute", "left", "echo", "late", "announce", "crash", "echo", "denied"]
    ):
        match kind:
            case "slow":
                staying.append(await mix.talk(gate, f"/ws/slow?wait={dice.uniform(0.03, 0.25):.2f}", AGENT))
            case "greet" | "announce":
                staying.append(await mix.talk(gate, f"/ws/{kind}", AGENT))
            case "denied" | "crash":
                await mix.turned_away(gate, f"/ws/{kind}")
            case "left":
                await mix.give_up(gate, "/ws/slow?wait=0.6", 0.2)
            case "mute":
                staying.append(await wire.opened(gate, "/ws/echo?room=kiosk", answer_pings=False))
            case "late":
                await mix.turned_away(gate, "/ws/slow?wait=3")
            case _:
                path = f"/ws/echo?room={number % 9}&token=secret-{number}"
                staying.append(await mix.talk(gate, path, AGENT))
        await asyncio.sleep(dice.uniform(0, 0.12))
    return staying


async def take(admin_port: int, folder: Path) -> None:
    """Take all pictures."""
    async with chromium() as browser:
        for name, scheme in (("light", "light"), ("dark", "dark")):
            async with page_of(browser, admin_port, viewport=DESKTOP, color_scheme=scheme) as (page, _):
                await page.wait_for_timeout(1500)
                await page.screenshot(path=folder / f"page-{name}.png")
                if name == "light":
                    await page.locator("#handshake-table tr", has_text="before that").first.click()
                    await page.wait_for_timeout(600)
                    await page.screenshot(path=folder / "page-detail.png")
                else:
                    for view in ("sessions", "windows"):
                        await page.locator(f"#tab-{view}").click()
                        await page.wait_for_timeout(1200)
                        await page.screenshot(path=folder / f"page-{view}.png")
        async with page_of(
            browser, admin_port, viewport=PHONE, device_scale_factor=1.5, has_touch=True, is_mobile=True
        ) as (page, _):
            await page.wait_for_timeout(1500)
            await page.screenshot(path=folder / "page-phone.png")


async def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    port = launch.free_port()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(front.gate(f"http://127.0.0.1:{port}", mix.CHAT_POLICY))
        gate = (server.host, server.port)
        backend = asyncio.to_thread(launch.uvicorn, "websockets-sansio", port=port)
        stack.enter_context(await cold_start(gate, backend))
        staying = await ordinary_day(gate)
        opening = [
            asyncio.create_task(mix.talk(gate, f"/ws/slow?wait=0.9{number}", AGENT)) for number in range(2)
        ]
        await take(server.admin_port, folder)
        for task in opening:
            with suppress(AssertionError, wire.ClosedError):
                staying.append(await task)
        for one in staying:
            one.abort()


if __name__ == "__main__":
    uvloop.run(main())
