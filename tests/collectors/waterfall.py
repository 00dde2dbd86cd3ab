"""Draws the spans of a handshake as a waterfall: an SVG for light and dark pages, with text alternative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collectors.collector import attributes

WIDTH, LEFT, RIGHT, ROW, TOP = 880, 200, 200, 21, 58  # in pixels; LEFT and RIGHT are for names and notes
THINNEST = 2.0
LEGEND = {"gate": 690, "upstream": 738, "client": 816}
STYLE = """\
text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}
.head{font-size:14px;font-weight:600}.dim,.axis{fill:#59636e}.axis{font-size:11px}
.page{fill:#fff;stroke:#d1d9e0}.grid{stroke:#d1d9e0}.mark{fill:#1f2328}
.gate{fill:#818b98}.upstream{fill:#2f6fde}.client{fill:#1a7f5a}.late{fill:#c77700}.bad{fill:#cf222e}
text.late{fill:#9a5b00;font-weight:600}text.bad{fill:#b3151f;font-weight:600}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.dim,.axis{fill:#9198a1}
.page{fill:#0d1117;stroke:#3d444d}.grid{stroke:#3d444d}.mark{fill:#f0f6fc}
.upstream{fill:#539bf5}.client{fill:#3fb28a}.late{fill:#e3a03c}.bad{fill:#f85149}
text.late{fill:#e3a03c}text.bad{fill:#ff7b72}}"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One span: when it ran, in ms since its handshake began, and what there is to say of it.

    `tone` is whose it is (`gate`, `upstream`, `client`), or that it ran out of time (`late`) or failed
    (`bad`). `marks` are the moments of its pings and pongs.
    """

    name: str
    start_ms: float
    end_ms: float
    tone: str
    note: str
    marks: tuple[tuple[str, float], ...] = ()

    @property
    def took(self) -> str:
        return f"{written(self.end_ms - self.start_ms)} ms"


def written(ms: float) -> str:
    """Write milliseconds with as many digits as mean something."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def bars(root: Span, children: list[Span]) -> list[Bar]:
    """Return the handshake and its parts in the order in which they began."""

    def ms(at_ns: int) -> float:
        return (at_ns - root.start_time_unix_nano) / 1e6

    def order(span: Span) -> tuple[int, int]:
        return span.start_time_unix_nano, span.end_time_unix_nano

    return [
        Bar(
            _name(span),
            ms(span.start_time_unix_nano),
            ms(span.end_time_unix_nano),
            _tone(span),
            _note(span),
            tuple((event.name, ms(event.time_unix_nano)) for event in span.events),
        )
        for span in [root, *sorted(children, key=order)]
    ]


def _name(span: Span) -> str:
    attempt = attributes(span.attributes).get("readygate.attempt", 1)
    return f"{span.name}, try {attempt}" if span.name.startswith("upstream.") and attempt != 1 else span.name


def _tone(span: Span) -> str:
    told = attributes(span.attributes)
    if "error.type" in told:
        return "bad"
    if told.get("readygate.stage.outcome") == "expired" or told.get("readygate.outcome") == "ready_unproven":
        return "late"
    leg = span.name.partition(".")[0]
    return leg if leg in {"upstream", "client"} and span.name != "client.accept" else "gate"


def _note(span: Span) -> str:
    told = attributes(span.attributes)
    if "readygate.stage.outcome" in told:
        return f"{told['readygate.stage.outcome']}: {told['readygate.evidence']}"
    keys = ("readygate.outcome", "http.response.status_code", "error.type")
    return next((str(told[key]) for key in keys if key in told), "")


def described(drawn: list[Bar]) -> str:
    """Return the picture in words."""
    return "; ".join(
        f"{bar.name} {bar.took} from {written(bar.start_ms)} ms{f', {bar.note}' if bar.note else ''}"
        for bar in drawn
    )


def svg(title: str, drawn: list[Bar]) -> str:
    """Return the picture."""
    whole_ms, height = drawn[0].end_ms, TOP + ROW * len(drawn) + 14
    scale = (WIDTH - LEFT - RIGHT) / whole_ms
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(described(drawn))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="head" x="14" y="24">{escape(title)}</text>',
        *_legend(),
        *_axis(whole_ms, scale, height),
    ]
    for number, bar in enumerate(drawn):
        parts += _row(bar, TOP + ROW * number, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    return [
        f'<rect class="{tone}" x="{x}" y="15" width="9" height="9"/>'
        f'<text class="dim" x="{x + 14}" y="24">{tone}</text>'
        for tone, x in LEGEND.items()
    ]


def _axis(whole_ms: float, scale: float, height: int) -> list[str]:
    """Four to ten round times, with a line each."""
    power = 10.0 ** math.floor(math.log10(whole_ms / 4))
    step_ms = max(step * power for step in (1, 2, 5) if step * power <= whole_ms / 4)
    drawn = []
    for number in range(int(whole_ms / step_ms) + 1):
        x = LEFT + number * step_ms * scale
        drawn.append(f'<path class="grid" d="M{x:.1f} {TOP - 4}V{height - 10}"/>')
        label = f"{number * step_ms:g}" + (" ms" if number == 0 else "")
        place = f'x="{x:.1f}" y="{TOP - 9}" text-anchor="middle"'
        drawn.append(f'<text class="axis" {place}>{label}</text>')
    return drawn


def _row(bar: Bar, y: float, scale: float) -> list[str]:
    x, width = LEFT + bar.start_ms * scale, max((bar.end_ms - bar.start_ms) * scale, THINNEST)
    took = WIDTH - RIGHT + 68
    middle, loud = y + 14, bar.tone if bar.tone in {"late", "bad"} else "dim"
    drawn = [
        f'<text x="14" y="{middle}">{escape(bar.name)}</text>',
        f'<rect class="{bar.tone}" x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="12" rx="2"/>',
        f'<text class="dim" x="{took}" y="{middle}" text-anchor="end">{bar.took}</text>',
        f'<text class="{loud}" x="{took + 12}" y="{middle}">{escape(bar.note)}</text>',
    ]
    for name, at_ms in bar.marks:
        at = LEFT + at_ms * scale
        told = f"<title>{name} {written(at_ms)} ms</title>"
        drawn.append(f'<path class="mark" d="M{at:.1f} {y + 2}l3 -4h-6z">{told}</path>')
    return drawn
