"""The pictures of docs/tracing.md: what they say, and that what draws them says all of a trace."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backends.launch import ROOT
from tests.collectors.draw_traces import IMAGES, TITLES
from tests.collectors.waterfall import LEFT, RIGHT, WIDTH, bars, svg
from tests.docs.test_docs import REFERENCE, rows, section, words

SVG = "{http://www.w3.org/2000/svg}"
PAGE = (ROOT / "docs" / "tracing.md").read_text()
PICTURES = [IMAGES / f"trace-{name}.svg" for name in TITLES]
ROOT_NS = 1_000_000_000


def span(name: str, start_ms: float, end_ms: float, *events: tuple[str, float], **told: str | int) -> Span:
    def at(ms: float) -> int:
        return ROOT_NS + int(ms * 1e6)

    values = {
        f"{key.replace('__', '.')}": AnyValue(int_value=value)
        if isinstance(value, int)
        else AnyValue(string_value=value)
        for key, value in told.items()
    }
    return Span(
        name=name,
        start_time_unix_nano=at(start_ms),
        end_time_unix_nano=at(end_ms),
        events=[Span.Event(name=event, time_unix_nano=at(ms)) for event, ms in events],
        attributes=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def texts(picture: ET.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def test_a_picture_shows_each_span_where_it_was_and_what_came_of_it():
    root = span("websocket.handshake", 0, 100, readygate__outcome="ready_unproven")
    tries = [
        span(
            "upstream.upgrade", 1, 2, readygate__attempt=1, http__response__status_code=503, error__type="503"
        ),
        span("upstream.upgrade", 50, 60, readygate__attempt=2, http__response__status_code=101),
    ]
    stage = {"readygate__stage__outcome": "expired", "readygate__evidence": "pong", "readygate__attempt": 2}
    late = span("client.validation", 60, 99, ("ping", 61), **stage)
    drawn = bars(root, [late, *tries])
    assert [(bar.name, bar.tone) for bar in drawn] == [
        ("websocket.handshake", "late"),
        ("upstream.upgrade", "bad"),
        ("upstream.upgrade, try 2", "upstream"),
        ("client.validation", "late"),
    ]
    picture = ET.fromstring(svg("One & two", drawn))
    assert {"One & two", "503", "expired: pong", "39.0 ms"} <= set(texts(picture))
    rects = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("height") == "12"]
    room = WIDTH - LEFT - RIGHT
    starts = [float(rect.get("x")) - LEFT for rect in rects]
    assert starts == pytest.approx([0, room * 0.01, room * 0.5, room * 0.6], abs=0.1)
    widths = [float(rect.get("width")) for rect in rects]
    assert widths == pytest.approx([room, room * 0.01, room * 0.1, room * 0.39], abs=0.1)
    (told,) = (
        mark.find(f"{SVG}title").text for mark in picture.iter(f"{SVG}path") if mark.get("class") == "mark"
    )
    assert told == "ping 61.0 ms"
    assert "upstream.upgrade, try 2 10.0 ms from 50.0 ms, 101" in picture.find(f"{SVG}desc").text


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_each_picture_is_small_told_in_words_and_for_light_and_dark_pages(picture: Path):
    text = picture.read_text()
    assert len(text) < 10_000
    drawn = ET.fromstring(text)
    assert (drawn.get("role"), drawn.get("aria-labelledby")) == ("img", "title desc")
    assert drawn.find(f"{SVG}title").text == TITLES[picture.stem.removeprefix("trace-")]
    assert len(drawn.find(f"{SVG}desc").text) > 200
    assert "prefers-color-scheme:dark" in text
    (alternative,) = re.findall(rf"!\[([^\]]+)\]\(img/{picture.name}\)", PAGE)
    assert len(alternative) > 60


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_each_span_in_a_picture_is_one_of_the_reference(picture: Path):
    known = {
        word for row in rows(section(REFERENCE, "Spans").partition("\n### ")[0]) for word in words(row[0])
    }
    names = re.findall(r'<text x="14" y="\d+">([^<,]+)', picture.read_text())
    assert set(names) <= known
    assert {"websocket.handshake", "upstream.connect", "upstream.upgrade", "client.accept"} <= set(names)


def test_the_page_names_attributes_that_there_are():
    known = {word for row in rows(section(REFERENCE, "Attributes")) for word in words(row[1])}
    named = {word for word in words(PAGE) if re.fullmatch(r"readygate(\.[a-z_]+)+", word)} - {
        "readygate.telemetry"
    }
    assert named <= known


def test_the_table_has_an_answer_for_each_sign():
    table = rows(section(ROOT / "docs" / "tracing.md", "What you see, what it means, what to do"))
    assert len(table) >= 15
    assert all(len(row) == 3 and all(row) for row in table)
