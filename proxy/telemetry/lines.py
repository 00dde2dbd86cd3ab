"""A log record as one line: JSON for machines, plain words for a terminal.

https://cloud.google.com/logging/docs/structured-logging has the fields that Google Cloud knows.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from proxy.telemetry import redact

if TYPE_CHECKING:
    from proxy.telemetry.facts import Subject

_MAX_TEXT_CHARS = 2000
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
# What a terminal need not show: it is long, the same on each line, or told otherwise.
_HIDDEN = frozenset({"path", "status", "ms", "duration_s", "policy", "user_agent", "trace_id", "span_id"})
_HIDDEN |= {"handshake_trace_id", "stages"}
_USUAL = {"outcome": ("ready",), "reason": ("closed",), "route": ("*",)}
_NOTHING: tuple[object, ...] = (None, 0, 0.0, "", [0, 0], [], {})
_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_SHORT = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_PROVED = ("proved", "skipped")


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: severity, time, message, the record's `fields`, trace ids.

    `project` adds Google Cloud's trace fields, `http_request` its field of that name where the record has a
    `subject`.
    """

    def __init__(self, project: str = "", *, http_request: bool = False) -> None:
        super().__init__()
        self._project = project
        self._http_request = http_request
        self._second = -1
        self._prefix = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, object] = getattr(record, "fields", {})
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": self._time(record.created),
            "message": _message(record, fields),
            "logger": record.name,
        }
        line |= fields
        if self._project and (trace_id := fields.get("trace_id")):
            line["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace_id}"
            line["logging.googleapis.com/spanId"] = fields.get("span_id")
            line["logging.googleapis.com/trace_sampled"] = bool(getattr(record, "sampled", False))
        if self._http_request and (subject := getattr(record, "subject", None)) is not None:
            line["httpRequest"] = http_request(subject, fields)
        if record.exc_info and record.exc_info[0] is not None:
            # the end of a traceback says what happened
            line["exception"] = redact.text(self.formatException(record.exc_info))[-_MAX_TEXT_CHARS:]
        return _encode(line)

    def _time(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((created - second) * 1e6):06d}Z"


def http_request(subject: Subject, fields: dict[str, object]) -> dict[str, object]:
    """Return Google Cloud's `httpRequest` of a request that was answered: what it was, and the answer.

    https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#HttpRequest
    """
    host = f"[{subject.host}]" if ":" in subject.host else subject.host
    port = f":{subject.port}" if subject.port else ""
    told: dict[str, object] = {
        "requestMethod": subject.method,
        "requestUrl": f"{subject.scheme}://{host}{port}{subject.target}" if host else subject.target,
        "protocol": f"HTTP/{subject.http_version}",
    }
    if subject.client:
        told["remoteIp"] = subject.client
    if subject.user_agent:
        told["userAgent"] = subject.user_agent
    if fields.get("status"):
        told["status"] = fields["status"]
    if isinstance(ms := fields.get("ms"), int | float):
        told["latency"] = f"{ms / 1000:.6f}s"
    return told


class TextFormatter(logging.Formatter):
    """A record as a line for people: local time, severity, message, then what is out of the ordinary.

    What a peer chose cannot move the cursor or start a line. `colour`: for a terminal that has colours.
    """

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end; a traceback is on lines of its own behind it."""
        fields: dict[str, object] = getattr(record, "fields", {})
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        severity = _SHORT.get(record.levelname, record.levelname).ljust(5)
        if self._colour:
            severity = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{severity}\x1b[0m"
        said = _printable(_message(record, fields))
        words = [f"{at}.{int(record.created % 1 * 1000):03d}", severity, said]
        words += _lead(fields)
        words += [
            f"{key}={_brief(value)}"
            for key, value in fields.items()
            if key not in _HIDDEN and value not in _NOTHING and value not in _USUAL.get(key, ())
        ]
        words += _unproved(fields.get("stages"))
        if getattr(record, "sampled", False):
            words.append(f"trace={fields.get('trace_id')}")
        if record.exc_info and record.exc_info[0] is not None:
            told = redact.text(self.formatException(record.exc_info))[-_MAX_TEXT_CHARS:]
            words.append("\n" + "\n".join(_printable(line) for line in told.splitlines()))
        return " ".join(words)


def _message(record: logging.LogRecord, fields: dict[str, object]) -> str:
    # a record with fields and no arguments has a constant of ours for its message
    if fields and not record.args:
        return str(record.msg)
    return redact.text(record.getMessage())[:_MAX_TEXT_CHARS]


def _lead(fields: dict[str, object]) -> list[str]:
    """Return what everybody looks for first, without names: path, status, how long it took."""
    units = (("path", ""), ("status", ""), ("ms", " ms"), ("duration_s", " s"))
    return [f"{_brief(fields[key])}{unit}" for key, unit in units if fields.get(key) is not None]


def _unproved(stages: object) -> list[str]:
    if not isinstance(stages, dict):
        return []
    return [
        f"{name}={_brief(told)}"
        for name, told in stages.items()
        if not (isinstance(told, str) and told.startswith(_PROVED))
    ]


def _brief(value: object) -> str:
    """Return a value in a few characters; `3/400B` for messages and bytes."""
    if isinstance(value, dict) and {"messages", "bytes"} <= value.keys():
        return f"{value['messages']}/{value['bytes']}B"
    match value:
        case [int(messages), int(size)]:
            return f"{messages}/{size}B"
    if isinstance(value, list):
        return ",".join(map(_brief, value))
    text = _printable(str(value))
    return f'"{text}"' if " " in text or not text else text


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
