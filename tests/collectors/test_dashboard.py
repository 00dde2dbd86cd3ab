"""The dashboard itself: each panel explained, with a unit, in its place, of metrics that there are."""

from __future__ import annotations

import re
from itertools import combinations

from tests.backends.launch import ROOT
from tests.collectors.dashboard import dashboard, panels, queries

REFERENCE = (ROOT / "docs" / "reference.md").read_text()
METRIC = re.compile(r"readygate_[a-z_]+")
COLUMNS = 24


def known() -> set[str]:
    """The metrics of the reference, which a test of its own compares with the code."""
    return set(re.findall(r"^\| `(readygate_\w+)` \|", REFERENCE, re.MULTILINE))


def used(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRIC.findall(expression)}


def test_each_panel_has_a_unit_a_description_and_a_query():
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


def test_each_query_is_of_metrics_that_the_gate_has_and_all_of_them_are_shown():
    shown = {name for query in queries() for name in used(query.expression)}
    assert shown == known()


def test_panels_stand_side_by_side_and_none_on_another():
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard()["panels"]]
    for _, place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
    for (one, a), (other, b) in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one} and {other} overlap"


def test_ids_and_titles_are_of_one_panel_each():
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len({panel["title"] for panel in every}) == len(every)


def test_source_route_and_revision_are_chosen_by_whoever_looks():
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("route", "revision"):
        assert variables[name]["multi"]
        assert variables[name]["includeAll"]
        assert used(variables[name]["definition"]) <= known()
    sources = {panel["datasource"]["uid"] for panel in panels()}
    sources |= {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert sources == {"${datasource}"}


def test_every_query_minds_the_revision_and_the_route_where_there_is_one():
    table = dict(re.findall(r"^\| `(readygate_\w+)` \| [^|]+ \| [^|]+ \|([^|]*)\|", REFERENCE, re.MULTILINE))
    for query in queries():
        assert '{revision=~"$revision"}' in query.expression, query.panel
        if (
            any("`route`" in table[name] for name in used(query.expression))
            and "discarded" not in query.legend
        ):
            assert 'route=~"$route"' in query.expression, query.panel


def test_the_file_is_as_grafana_10_takes_it():
    told = dashboard()
    assert told["schemaVersion"] >= 38
    assert (told["title"], told["uid"]) == ("readygate", "readygate")
    assert "id" not in told, "the id is the server's that it came from"
