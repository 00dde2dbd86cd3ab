"""A real Prometheus scrapes two gates while clients meet each fault: what dashboard and alerts say then."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.collectors.dashboard import Query, queries
from tests.collectors.prometheus import WINDOW, Prometheus, promtool
from tests.collectors.scenes import REVISIONS, Scenes
from tests.integration.conftest import skipping

# Those that the scenes are about. The others want minutes, or a machine in trouble: see test_alerts.py.
DUE = {
    "ReadygateSuccessRateLow",
    "ReadygateHandshakesTimingOut",
    "ReadygateRedialStorm",
    "ReadygateUnproven",
    "ReadygateLimitHit",
    "ReadygateSpansDropped",
    "ReadygateKeySetFailing",
    "ReadygateHttpErrors",
    "ReadygatePolicyRefused",
}
# A machine that is busy with other tests may be as slow as these are about.
BUSY = {"ReadygateTimeToOpenHigh", "ReadygateEventLoopLag"}
OUTCOMES = {"ready", "ready_unproven", "rejected", "timeout", "abandoned"}
SHOWN = {
    "Handshakes by outcome": [{"outcome": outcome} for outcome in OUTCOMES],
    "Redials by cause": [{"cause": "status_503"}, {"cause": "status_500"}],
    "Redials per handshake": [{"route": "/cold", "revision": REVISIONS["cold"]}],
    "Stages that were not proved": [{"leg": "client", "stage": "validation", "outcome": "expired"}],
    "Closes by code and side": [{"side": "client", "code": "1000"}, {"side": "gate", "code": "1012"}],
    "Departures": [{"reason": "closed"}, {"reason": "early"}, {"reason": "max_age"}],
    "Refused by limits and guard": [{"limit": "header_bytes"}, {"reason": "origin"}],
    "Tokens": [{"reason": "missing"}, {"reason": "keys_unavailable"}, {"result": "failed"}],
    "HTTP by status": [{"status_class": "2xx"}, {"status_class": "5xx"}],
    "Builds and revisions": [{"revision": REVISIONS["chat"]}, {"revision": REVISIONS["cold"]}],
}


ROUNDS = 5


def test_panels_show_and_alerts_tell_what_two_gates_under_faults_went_through(run, tmp_path: Path):
    with contextlib.ExitStack() as stack:
        scenes = Scenes(tmp_path, stack)
        with skipping():
            prometheus = Prometheus(scenes.targets)
        stack.enter_context(prometheus)
        scenes.start()
        run(scenes.play())  # a counter's first count is no rate yet
        prometheus.scraped()
        scenes.refuse_a_policy()
        fired = check_alerts(prometheus, lambda: run(scenes.play()))
        check_panels(prometheus, time.time())
        for target in scenes.targets:
            check_exposition(target)
        check_words(fired)
        run(check_drain(prometheus, scenes))


def check_exposition(target: str) -> None:
    """Promtool has nothing to say about names, units and help texts."""
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
        assert promtool("check", "metrics", given=answer.read().decode()).strip() == ""


def check_panels(prometheus: Prometheus, at: float) -> None:
    """All of them show the window before this moment, however long it takes to ask for them."""
    shown: dict[str, list[dict[str, str]]] = {}
    for query in queries():
        found = prometheus.query(query.asked(WINDOW), at)
        values = [value for _, value in found if not math.isnan(value)]
        assert values, f"{query.panel} shows nothing: {query.expression}"
        check_legend(query, [labels for labels, _ in found])
        shown.setdefault(query.panel, []).extend(labels for labels, _ in found)
        check_variables(prometheus, query, at)
    for panel, wanted in SHOWN.items():
        for labels in wanted:
            assert any(labels.items() <= one.items() for one in shown[panel]), (panel, labels, shown[panel])


def check_legend(query: Query, series: list[dict[str, str]]) -> None:
    """The legend names labels that there are, and enough of them to tell the series apart."""
    names = re.findall(r"{{(\w+)}}", query.legend)
    assert all(set(names) <= set(labels) for labels in series), query
    assert len({tuple(labels[name] for name in names) for labels in series}) == len(series), query


def check_variables(prometheus: Prometheus, query: Query, at: float) -> None:
    """With a route and a revision chosen there is nothing of the others."""
    for labels, _ in prometheus.query(query.asked(WINDOW, route="/cold", revision=REVISIONS["cold"]), at):
        assert labels.get("revision", REVISIONS["cold"]) == REVISIONS["cold"], query
        assert labels.get("route", "/cold") == "/cold", query
    assert not prometheus.query(query.asked(WINDOW, revision="none"), at), f"{query} knows no revision"


def check_alerts(prometheus: Prometheus, play: Callable[[], None]) -> dict[str, list[dict]]:
    """Play until each alert that is due has fired, and no other; return them.

    On a busy machine what one needs may lie a window apart in one round, and another fires late.
    """
    fired: dict[str, list[dict]] = {}
    for _ in range(ROUNDS):
        play()
        prometheus.scraped()
        prometheus.evaluated()
        fired |= prometheus.firing()
        if set(fired) >= DUE:
            break
    assert sorted(set(fired) - BUSY) == sorted(DUE)
    return fired


def check_words(fired: dict[str, list[dict]]) -> None:
    for alert in (alert for alerts in fired.values() for alert in alerts):
        for text in alert["annotations"].values():
            assert "<error" not in text, text
            assert "no value" not in text, text
    slow = {alert["labels"]["route"] for alert in fired["ReadygateHandshakesTimingOut"]}
    assert slow == {"/ws/ingest/**"}
    assert {alert["labels"]["route"] for alert in fired["ReadygateRedialStorm"]} == {"/cold"}


async def check_drain(prometheus: Prometheus, scenes: Scenes) -> None:
    """A gate that stops says so while its sessions end."""
    clients = await scenes.drain()
    await asyncio.to_thread(
        prometheus.until, lambda: "ReadygateNotReady" in prometheus.firing(), "nobody told of the drain"
    )
    for client in clients:
        client.abort()
