"""A real Prometheus that scrapes gates every second, with the configuration and the alerts of deploy/.

    with Prometheus({"127.0.0.1:9901"}) as prometheus:
        prometheus.scraped()
        prometheus.query("readygate_sessions_active")

Minutes would not do for a test: the alerts' windows are cut to 20 s and their `for` to nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import yaml

from tests.backends.launch import ROOT, STEP_S, free_port, installed, ready, start

T = TypeVar("T")
DEPLOY = ROOT / "deploy" / "prometheus"
WINDOW = "20s"
WAIT_S = 20.0


def promtool(*words: str, given: str = "") -> str:
    """Run promtool and return what it says. AssertionError unless it is content and quiet."""
    command = [installed("promtool"), *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class Prometheus:
    """A running server. Its samples are in a folder of its own, which goes with it."""

    def __init__(self, targets: Iterable[str]) -> None:
        program, port = installed("prometheus"), free_port()
        self.targets = sorted(targets)
        self._room = Path(tempfile.mkdtemp(prefix="readygate-prometheus-"))
        config = self._configure()
        words = [f"--config.file={config}", f"--storage.tsdb.path={self._room}/data", "--log.level=warn"]
        self._server = start(
            "prometheus", [program, *words, f"--web.listen-address=127.0.0.1:{port}"], port=port
        )
        self._server._room.callback(shutil.rmtree, self._room, ignore_errors=True)

    def __enter__(self) -> Self:
        ready(self._server)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _configure(self) -> Path:
        config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = self.targets
        rules = (DEPLOY / "alerts.yaml").read_text()
        rules = re.sub(r"(?<=\[)\d+m(?=\])", WINDOW, re.sub(r"(?<=for: )\d+m", "0s", rules))
        (self._room / "alerts.yaml").write_text(rules)
        path = self._room / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def _ask(self, path: str, **query: str) -> dict:
        url = f"{self._server.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query, now or at a moment of the past.

        AssertionError if it is wrong.
        """
        found = self._ask("query", query=expression, time=str(at or time.time()))
        assert found["resultType"] == "vector", expression
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def until(self, wanted: Callable[[], T], what: str) -> T:
        """Wait until `wanted()` is something; return it."""
        until = time.monotonic() + WAIT_S
        while not (found := wanted()):
            if time.monotonic() > until:
                raise TimeoutError(f"{what}\n{self._server.log()[-2000:]}")
            time.sleep(STEP_S * 5)
        return found

    def scraped(self) -> None:
        """Wait until each gate was scraped at a moment after this one."""
        now = time.time()

        def all_of_them() -> bool:
            # of a comparison, timestamp() would tell when the query was asked
            at = [value for _, value in self.query("timestamp(up) and up == 1")]
            return len(at) == len(self.targets) and min(at) > now

        self.until(all_of_them, "not all were scraped")

    def evaluated(self) -> None:
        """Wait until the alerts were looked at by what had been scraped before this moment."""
        now = datetime.now(UTC)

        def all_of_them() -> bool:
            groups = self._ask("rules")["groups"]
            return all(datetime.fromisoformat(group["lastEvaluation"]) > now for group in groups)

        self.until(all_of_them, "the alerts were not looked at")

    def firing(self) -> dict[str, list[dict]]:
        """Return the alerts that fire now, by name, as the server tells of them."""
        told: dict[str, list[dict]] = {}
        for alert in self._ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                told.setdefault(alert["labels"]["alertname"], []).append(alert)
        return told
