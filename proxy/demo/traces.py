"""What rotel prints of spans, read again and laid out as people read a trace: a line a span, and a bar."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import Final

_ROOTS: Final = ("websocket.handshake", "websocket.session")
_FIELD: Final = re.compile(r"(Trace ID|Parent ID|ID|Name|Status code|Start time|End time) *: ?(.*)")
_ATTRIBUTE: Final = re.compile(r"-> ([\w.]+): \w+\((.*)\)")
_ITEM: Final = re.compile(r"-> (Name|Trace ID): (.*)")
_BAR: Final = 32
_NS_A_MS: Final = 1e6
_WIDTH: Final = 110
_MOST_WAITING: Final = 64  # traces of which the root has not come
_FIRST_TRY: Final = "1"
# The same in each trace, or told in its first line.
_DULL: Final = (
    "http.request.method",
    "http.route",
    "url.path",
    "url.scheme",
    "network.",
    "server.",
    "readygate.outcome",
)
_NOTHING: Final = ("", "0")
_FRACTION: Final = re.compile(r"\d+\.\d+")
_WRAPPED: Final = re.compile(r"Str\((.*?)\)")


@dataclass(slots=True)
class Span:
    """A span as it was printed: times in ns since 1970, attributes and what it links to as text."""

    name: str = ""
    trace_id: str = ""
    parent_id: str = ""
    start_ns: int = 0
    end_ns: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    @property
    def took_ms(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / _NS_A_MS


class Reader:
    """Takes rotel's lines, one after the other; a trace is returned as text when its root is whole.

    A span is whole when the next one begins, or when somebody says that nothing follows: `end`.
    """

    def __init__(self) -> None:
        self._span: Span | None = None
        self._section = ""
        self._children: dict[str, list[Span]] = {}

    def take(self, line: str) -> str | None:
        """Read a line."""
        if line.startswith(("Span #", "ResourceSpans #")):
            told = self.end()
            self._span, self._section = (Span() if line.startswith("Span #") else None), ""
            return told
        if self._span is not None:
            self._read(self._span, line.strip())
        return None

    def end(self) -> str | None:
        """Take it that the span that was read last is whole."""
        span, self._span = self._span, None
        if span is None:
            return None
        if span.name in _ROOTS:
            return layout(span, self._children.pop(span.trace_id, []))
        if len(self._children) >= _MOST_WAITING:
            self._children.clear()
        self._children.setdefault(span.trace_id, []).append(span)
        return None

    def _read(self, span: Span, line: str) -> None:
        if line in {"Attributes:", "Events:", "Links:"}:
            self._section = line
        elif not self._section and (found := _FIELD.fullmatch(line)):
            _set(span, found[1], found[2].strip())
        elif self._section == "Attributes:" and (found := _ATTRIBUTE.fullmatch(line)):
            span.attributes[found[1]] = _plain(found[2])
        elif found := _ITEM.fullmatch(line):
            (span.events if self._section == "Events:" else span.links).append(found[2])


def _plain(value: str) -> str:
    """Return a value without the types of its parts, and no more digits than matter."""
    if _FRACTION.fullmatch(value):
        return f"{float(value):.2f}"
    return ",".join(_WRAPPED.findall(value)) or value


def _set(span: Span, name: str, value: str) -> None:
    match name:
        case "Trace ID":
            span.trace_id = value
        case "Parent ID":
            span.parent_id = value
        case "Name":
            span.name = value
        case "Start time":
            span.start_ns = int(value)
        case "End time":
            span.end_ns = int(value)


def layout(root: Span, children: list[Span]) -> str:
    """Return a trace: what the root tells, then its children as they began, in ms after it."""
    told = root.attributes
    what = [f"{root.name}  {root.took_ms:.2f} ms", f"trace {root.trace_id}"]
    if "url.path" in told:
        what.insert(1, f"{told['url.path']}  {told['readygate.outcome']}")
    lines = ["  ".join(what), *(f"    linked with trace {link}" for link in root.links)]
    rest = [
        f"{key.removeprefix('readygate.')}={value}"
        for key, value in told.items()
        if not key.startswith(_DULL) and value not in _NOTHING
    ]
    wrapped = textwrap.wrap(" ".join(rest), _WIDTH, break_long_words=False, break_on_hyphens=False)
    lines += [f"    {line}" for line in wrapped]
    if children:
        lines.append(f"    {'at ms':>9} {'took ms':>9}")
    lines += [_row(root, child) for child in sorted(children, key=lambda span: (span.start_ns, span.end_ns))]
    return "\n".join(lines) + "\n"


def _row(root: Span, child: Span) -> str:
    at_ms = (child.start_ns - root.start_ns) / _NS_A_MS
    a_ms = _BAR / max(root.took_ms, 0.001)
    begin = min(int(at_ms * a_ms), _BAR - 1)
    bar = " " * begin + "#" * max(round(child.took_ms * a_ms), 1)
    row = f"    {at_ms:9.2f} {child.took_ms:9.2f}  {bar[:_BAR]:{_BAR}}  {child.name:23} {_facts(child)}"
    return row.rstrip()


def _facts(child: Span) -> str:
    """Return what came of a step: its try if it is not the first, status, proof, events, error."""
    told = child.attributes
    attempt = told.get("readygate.attempt", _FIRST_TRY) if child.name.startswith("upstream.") else _FIRST_TRY
    status, error = told.get("http.response.status_code", ""), told.get("error.type", "")
    facts = [
        f"try {attempt}" if attempt != _FIRST_TRY else "",
        status if status != error else "",
        told.get("readygate.stage.outcome", ""),
        told.get("readygate.evidence", ""),
        f"({', '.join(child.events)})" if child.events else "",
        f"error {error}" if error else "",
    ]
    return " ".join(fact for fact in facts if fact)
