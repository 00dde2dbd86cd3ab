"""The live page in a real browser, before a real gate whose backend falls over on purpose."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.backends import front, launch, wire
from tests.page import mix
from tests.page.browser import page_of

pytestmark = pytest.mark.needs_chromium


async def told(admin_port: int, path: str) -> dict:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{admin_port}") as admin,
        admin.get(path, headers={"Accept": "application/json"}) as answer,
    ):
        return await answer.json()


def row(page, path: str):
    return page.locator("#handshake-table tbody tr", has_text=path)


def test_rows_appear_as_clients_come_and_the_figures_follow(stage):
    async def main():
        async with stage.page() as page:
            client = await mix.talk(stage.address, "/echo?who=alive")
            await row(page, "/echo?who=alive").wait_for()
            await page.locator("#now dd", has_text="1").first.wait_for()
            told_of = await row(page, "/echo?who=alive").inner_text()
            lanes = row(page, "/echo?who=alive").get_by_role("img")
            spoken = await lanes.get_attribute("aria-label")
            await client.leave()
            return told_of, spoken

    text, spoken = stage.run(main())
    assert "ready" in text or "unproven" in text  # where the client was slow
    assert " ms" in text
    assert spoken.startswith("upstream connect ")
    assert "client validation" in spoken
    assert "gate open after" in spoken


def test_the_waterfall_in_detail_is_what_the_gate_tells_of_this_session(stage):
    async def main():
        async with stage.page() as page:
            client = await mix.talk(stage.address, mix.cold("/cold", 2))
            await row(page, "/cold").first.click()
            detail = page.get_by_role("dialog")
            await detail.locator("tr.reply").wait_for()  # the first reply is told after the row
            trace_id = await detail.locator("#trace-id").inner_text()
            names = [" ".join(name.split()) for name in await detail.locator("tbody th").all_inner_texts()]
            took = await detail.locator("tbody td.number").all_inner_texts()
            facts = await detail.locator(".facts").first.inner_text()
            sessions = (await told(stage.gate.admin_port, "/sessions"))["sessions"]
            handshakes = (await told(stage.gate.admin_port, "/handshakes"))["handshakes"]
            await client.leave()
            return trace_id, names, took, facts, sessions, handshakes

    trace_id, names, took, facts, sessions, handshakes = stage.run(main())
    session = next(one for one in sessions if one["trace_id"] == trace_id)
    assert session["redials"] == 2
    assert "2: answered 503 \N{MULTIPLICATION SIGN}2" in facts
    steps = next(one for one in handshakes if one["trace_id"] == trace_id)["steps"]
    shown = [name for name in names if name not in {"pause before a redial", "first reply"}]
    assert shown == [
        f"{step['leg']} {step['name']}"
        + (f" (try {step['attempt']})" if step["leg"] == "upstream" and step["attempt"] > 1 else "")
        for step in steps
    ]
    assert names.count("pause before a redial") == 2
    connect = steps[0]["end_ms"] - steps[0]["start_ms"]
    assert took[0] == f"{connect:.2f} ms"


def test_a_failed_handshake_is_found_by_outcome_route_and_text(stage):
    async def main():
        async with stage.page() as page:
            assert await mix.turned_away(stage.address, mix.cold("/cold", 99)) == 503
            assert await mix.turned_away(stage.address, mix.cold("/never", 999)) == 503
            client = await mix.talk(stage.address, "/echo?who=well")
            for path in ("/cold", "/never", "/echo?who=well"):
                await row(page, path).first.wait_for()
            visible = page.locator("#handshake-table tbody tr:visible")
            await page.get_by_role("button", name="timeout").click()
            outcomes = set(await visible.locator(".outcome .badge").all_inner_texts())
            why = await visible.first.locator(".why").inner_text()
            await page.get_by_role("button", name="rejected").click()
            both = set(await visible.locator(".outcome .badge").all_inner_texts())
            await page.get_by_label("Route").select_option("/never")
            routes = await visible.locator(".path").all_inner_texts()
            await page.get_by_label("Text in path").fill("nobody is called so")
            await page.locator("#handshakes-empty").wait_for()
            empty = await page.locator("#handshakes-empty").inner_text()
            await client.leave()
            return outcomes, why, both, routes, empty

    outcomes, why, both, routes, empty = stage.run(main())
    assert outcomes == {"timeout"}
    assert why.startswith("not ready in time: answered 503 \N{MULTIPLICATION SIGN}")
    assert both == {"timeout", "rejected"}
    assert all(path.startswith("/never") for path in routes)
    assert empty.startswith("No handshake of the last 200 is like that")


def test_a_keyboard_is_enough(stage):
    async def main():
        async with stage.page() as page:
            for who in ("one", "two"):
                await (await mix.talk(stage.address, f"/echo?who={who}")).leave()
                await row(page, f"who={who}").wait_for()
            await page.locator("#handshake-table tbody button[tabindex='0']").focus()
            await page.keyboard.press("Home")
            await page.keyboard.press("ArrowDown")
            await page.keyboard.press("Enter")
            title = page.locator("#detail-title")
            opened = await title.inner_text()
            await page.keyboard.press("ArrowUp")
            followed = await title.inner_text()
            await page.keyboard.press("Escape")
            await page.locator("#detail").wait_for(state="hidden")
            return opened, followed, await page.evaluate("document.activeElement.closest('tr')?.innerText")

    opened, followed, back_at = stage.run(main())
    assert (opened, followed) == ("/echo?who=one", "/echo?who=two")
    assert "/echo?who=two" in back_at


def test_sessions_show_their_legs_and_what_they_said(stage):
    async def main():
        async with stage.page() as page:
            client = await mix.talk(stage.address, "/echo?who=session")
            await page.get_by_role("tab", name="Sessions").click()
            session = page.locator("#session-table tbody tr", has_text="who=session")
            await session.get_by_text("1 message, 5 B").first.wait_for()
            text = await session.inner_text()
            await client.leave()
            await session.wait_for(state="detached")
            return text

    text = stage.run(main())
    assert text.count("1 message, 5 B") == 2
    assert text.count("open") == 2


def test_learned_windows_are_drawn_with_their_values(stage):
    async def main():
        async with stage.page() as page:
            await (await mix.talk(stage.address, "/echo")).leave()
            await page.get_by_role("tab", name="windows").click()
            card = page.locator(".card", has=page.get_by_role("heading", name="*", exact=True))
            await card.get_by_role("img").nth(2).wait_for()
            return [await each.get_attribute("aria-label") for each in await card.get_by_role("img").all()]

    upstream, client, quiet = stage.run(main())
    assert upstream.startswith("Upstream window: now ")
    assert client.startswith("Client window: now 0 ms")
    assert quiet.startswith("Quiet time: now ")


def test_paused_it_holds_still_and_says_what_waits(stage):
    async def main():
        async with stage.page() as page:
            await page.get_by_role("button", name="Pause").click()
            await (await mix.talk(stage.address, "/echo?who=waits")).leave()
            resume = page.get_by_role("button", name="Resume (1 new)")
            await resume.wait_for()
            shown = await row(page, "who=waits").count()
            await resume.click()
            await row(page, "who=waits").wait_for()
            return shown

    assert stage.run(main()) == 0


def test_what_a_client_says_is_text_and_its_secrets_are_not_shown(stage):
    async def main():
        async with stage.page() as page:
            path = "/echo?name=<img/src=x/onerror=alert(1)>&token=s3cr3t-of-somebody"
            client = await mix.talk(stage.address, path, "User-Agent: <script>alert(2)</script>")
            await row(page, "<img/src=x/onerror=alert(1)>").click()
            await page.locator("#detail", has_text="<script>alert(2)</script>").wait_for()
            content = await page.content()
            await client.leave()
            return content

    content = stage.run(main())
    assert "<img" not in content
    assert "s3cr3t" not in content


def test_a_phone_scrolls_only_down(stage):
    async def main():
        async with stage.page(viewport={"width": 360, "height": 740}, color_scheme="dark") as page:
            await (await mix.talk(stage.address, "/echo?who=" + "phone" * 40)).leave()
            await row(page, "phonephone").click()
            widths = "[document.documentElement.scrollWidth, document.querySelector('#detail').scrollWidth]"
            detail = await page.evaluate(widths)
            await page.get_by_role("button", name="Close").click()
            found = [detail]
            for tab in ("Sessions", "Windows", "Handshakes"):
                await page.get_by_role("tab", name=tab).click()
                found.append(await page.evaluate(widths))
            return found

    assert all(page <= 360 and detail <= 360 for page, detail in stage.run(main()))


def test_at_every_width_figures_fill_their_rows_and_no_tab_wraps(stage):
    look = """() => {
        for (const count of document.querySelectorAll('.tabs .count')) count.textContent = '9,999';
        const box = (selector) => document.querySelector(selector).getBoundingClientRect();
        const hole = box('#now').right - box('#now > :last-child').right;
        return [hole, box('.tabs').height - box('#pause').height];
    }"""

    async def main():
        found = {}
        for width in (360, 820, 1000, 1280):
            async with stage.page(viewport={"width": width, "height": 740}) as page:
                found[width] = await page.evaluate(look)
        return found

    found = stage.run(main())
    assert all(hole < 2 and abs(taller) < 1 for hole, taller in found.values()), found


def test_it_says_that_the_gate_is_gone_and_comes_back_by_itself(stage):
    async def main():
        where = f"127.0.0.1:{launch.free_port()}"

        def start() -> launch.Server:
            gate = front.gate(stage.backend.url, admin=where)
            gate.admin_port = int(where.rpartition(":")[2])
            return gate

        async with AsyncExitStack() as stack:
            first = stack.enter_context(await asyncio.to_thread(start))
            page, _ = await stack.enter_async_context(page_of(stage.browser, first.admin_port))
            await asyncio.to_thread(first.stop)
            await page.locator("#connection.off").wait_for()
            stack.enter_context(await asyncio.to_thread(start))
            await page.locator("#connection.on").wait_for()

    stage.run(main())


def test_workers_are_shown_together(stage):
    async def main():
        gate = await asyncio.to_thread(lambda: front.gate(stage.backend.url, mix.FLAKY_POLICY, workers="2"))
        try:
            async with stage.page(gate) as page:
                clients = [
                    await mix.talk((gate.host, gate.port), f"/echo?who=worker{number}") for number in range(8)
                ]
                for number in range(8):
                    await row(page, f"who=worker{number}").wait_for()
                await page.locator("#now dd", has_text="8").first.wait_for()
                seen = " ".join(await page.locator("#handshake-table .who").all_inner_texts())
                for client in clients:
                    await client.leave()
                return seen
        finally:
            await asyncio.to_thread(gate.stop)

    seen = stage.run(main())
    assert "worker 1" in seen or "worker 2" in seen


def test_no_request_leaves_the_admin_port(stage):
    async def main():
        asked = []
        async with stage.page() as page:
            page.on("request", lambda request: asked.append(request.url))
            await page.reload()
            await page.locator("#connection.on").wait_for()
        return asked

    port = stage.gate.admin_port
    asked = stage.run(main())
    assert len(asked) > 8
    assert all(url.startswith(f"http://127.0.0.1:{port}/") for url in asked)


def test_a_client_that_never_answers_pings_is_unproven_and_says_why(stage):
    async def main():
        async with stage.page() as page:
            client = await wire.opened(stage.address, "/echo?who=mute", answer_pings=False)
            await row(page, "who=mute").wait_for()
            text = await row(page, "who=mute").inner_text()
            client.abort()
            return text

    text = stage.run(main())
    assert "unproven" in text
    assert "client validation: no pong within 75.0 ms" in text


def test_with_an_admin_token_a_browser_asks_its_user_and_page_and_stream_come(stage):
    token = "correct-horse-battery-staple"

    async def main(gate):
        async with stage.page(gate, http_credentials={"username": "anyone", "password": token}) as page:
            client = await mix.talk((gate.host, gate.port), "/echo?who=let-in")
            await row(page, "who=let-in").wait_for()
            await client.leave()
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{gate.admin_port}") as stranger,
            stranger.get("/page/main.js") as answer,
        ):
            return answer.status

    with front.gate(stage.backend.url, env={"READYGATE_ADMIN_TOKEN": token}) as gate:
        assert stage.run(main(gate)) == 401


def test_a_token_that_is_refused_is_a_bar_and_a_reason(stage):
    policy = """\
extends: production
guard:
  jwt: {algorithms: [HS256], keys: [{kind: secret, env: PAGE_SECRET}], sources: [{from: authorization}]}
"""

    async def main(gate):
        async with stage.page(gate) as page:
            await mix.turned_away((gate.host, gate.port), "/echo?who=nobody")
            refused = row(page, "who=nobody")
            await refused.wait_for()
            told = await refused.inner_text()
            spoken = await refused.get_by_role("img").get_attribute("aria-label")
            return told, spoken

    with front.gate(stage.backend.url, policy, env={"PAGE_SECRET": "0123456789abcdef" * 2}) as gate:
        told, spoken = stage.run(main(gate))
    assert "token: missing" in told
    assert spoken.startswith("guard auth ")
    assert spoken.endswith("missing")
