"""Which close code makes which client come back: measured, and what `docs/reconnecting.md` says is that."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from importlib import metadata

import pytest

from tests.backends.launch import NODE, ROOT, STEP_S
from tests.backends.socketio import clients, told
from tests.clients.scripted import serving
from tests.integration.conftest import skipping

PAGE = ROOT / "docs" / "reconnecting.md"
CLOSES = [
    f"close-{code}" for code in (1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 1014, 4000, 4401)
]
REFUSALS = [f"{when}-{status}" for status in (503, 429, 0) for when in ("first", "again")]
LIBRARIES = (
    "websockets",
    *(
        pytest.param(library, marks=pytest.mark.needs_node)
        for library in ("reconnecting-websocket", "partysocket", "socket.io-client", "graphql-ws", "ws")
    ),
)
TOLD_TO_RETRY = (
    "websockets, told to retry",
    pytest.param("graphql-ws, told to retry", marks=pytest.mark.needs_node),
)


async def lived_through(kind: str, cases: Iterable[str], exit_code: int = 0) -> str:
    """What clients of this kind, one a case, told until none of them would do anything any more.

    That is when their process ends by itself: nobody in it waits for a connection, a timer or a try.
    """
    async with serving() as server:
        scheme = "http" if kind.startswith("socket.io") else "ws"
        port = server.sockets[0].getsockname()[1]
        urls = {case: f"{scheme}://127.0.0.1:{port}/?case={case}" for case in cases}
        with skipping(), clients(kind, urls) as crowd:
            while crowd.process.poll() is None:
                await asyncio.sleep(STEP_S)
            assert crowd.process.returncode == exit_code, crowd.log()
            return crowd.log()
    raise AssertionError("skipped or failed before this")


def number(text: str) -> int:
    """The close code or status in a case or in the name of a row; 0 in one that has none."""
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def came_back(log: str, cases: Iterable[str]) -> dict[int, str]:
    """By code or status: `yes` or `no`. First connects and later ones must agree."""
    left = set(told(log, "left"))
    told_by = {case: "yes" if case in left else "no" for case in cases}
    answers = {
        number(case): {told_by[other] for other in cases if number(other) == number(case)} for case in cases
    }
    return {key: " and ".join(sorted(found)) for key, found in answers.items()}


def columns() -> dict[str, dict[int, str]]:
    """The table of the page: by the head of a column, what it says to each code or status."""
    text = PAGE.read_text().partition("\n## Which close code makes which client come back\n")[2]
    table = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    lines = [line.strip("| ").split(" | ") for line in table]
    head, _, *rows = lines
    return {name: {number(row[0]): row[at] for row in rows} for at, name in enumerate(head) if at}


def version(library: str) -> str:
    if library == "websockets":
        return metadata.version(library)
    return json.loads((NODE / "node_modules" / library / "package.json").read_text())["version"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_page_says_after_which_ends_a_client_comes_back(run, library: str):
    log = run(lived_through(library, CLOSES + REFUSALS))
    assert columns()[f"`{library}` {version(library)}"] == came_back(log, CLOSES + REFUSALS)
    for case in CLOSES:
        assert case in told(log, f"closed {number(case)}"), log


@pytest.mark.parametrize("kind", TOLD_TO_RETRY)
def test_a_client_that_is_told_to_retry_comes_back_from_every_refusal(run, kind: str):
    log = run(lived_through(kind, REFUSALS))
    assert set(told(log, "left")) == set(REFUSALS), log


def test_the_iterator_of_websockets_comes_back_without_a_delay_after_any_close(run):
    log = run(lived_through("websockets", CLOSES + REFUSALS))
    waited = set(told(log, "waits"))
    assert waited.isdisjoint(CLOSES)
    assert "again-503" in waited


@pytest.mark.needs_node
def test_a_hold_longer_than_its_own_timeout_makes_partysocket_try_again(run):
    log = run(lived_through("partysocket, impatient", ["first-hold"]))
    assert told(log, "left"), log


@pytest.mark.needs_node
def test_a_hold_longer_than_its_own_timeout_ends_a_node_process_with_reconnecting_websocket(run):
    log = run(lived_through("reconnecting-websocket, impatient", ["first-hold"], exit_code=1))
    assert not told(log, "left"), log
    assert "WebSocket was closed before the connection was established" in log
