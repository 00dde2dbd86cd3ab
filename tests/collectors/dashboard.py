"""The dashboard of deploy/ as its panels and queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.backends.launch import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "readygate.json"


@dataclass(frozen=True)
class Query:
    """What one target of a panel asks for; `legend` names its series."""

    panel: str
    expression: str
    legend: str

    def asked(self, interval: str, route: str = ".*", revision: str = ".*") -> str:
        """Return it with Grafana's variables filled in."""
        filled = self.expression.replace("$__rate_interval", interval)
        return filled.replace("$route", route).replace("$revision", revision)


def dashboard() -> dict:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict]:
    """Return the panels that show something; rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel["title"], target["expr"], target["legendFormat"])
