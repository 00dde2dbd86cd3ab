"""The Chromium of this machine, headless, and what its console says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

from tests.backends.launch import installed


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run it. MissingToolError without it."""
    path = installed("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser, admin_port: int, **options: object
) -> AsyncIterator[tuple[Page, list[str]]]:
    """Open the live page; yields it and what its console complains of."""
    context = await browser.new_context(**options)
    complaints: list[str] = []
    try:
        page = await context.new_page()
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"http://127.0.0.1:{admin_port}/")
        await page.locator("#connection.on").wait_for()
        yield page, complaints
    finally:
        await context.close()
