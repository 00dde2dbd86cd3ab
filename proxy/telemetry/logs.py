"""JSON lines on stdout, one per event, as Google Cloud Logging and everybody else reads them.

https://cloud.google.com/logging/docs/structured-logging. A reader that stops reading never stops us: a line
is written only when the descriptor takes it at once, otherwise it waits in a bounded queue until the next
one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import HttpProcessingError

from proxy.telemetry import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
_MAX_LINE_BYTES = (
    select.PIPE_BUF
)  # POSIX: a write of this much to a writable pipe is atomic and does not block
_MAX_TEXT_CHARS = 2000
_MAX_WAITING = 1000
_NOISE_EVERY_S = 60.0
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
_NOISY = ("opentelemetry", "urllib3", "requests", "grpc")


def setup(environ: Mapping[str, str], fd: int | None = None) -> None:
    """Send all logging of the process to `fd` (default: stdout) as JSON lines. A second call changes nothing.

    READYGATE_LOG_LEVEL is DEBUG, INFO (default), WARNING, ERROR or CRITICAL; other values are logged and
    ignored.
    """
    root = logging.getLogger()
    if any(isinstance(handler, LineHandler) for handler in root.handlers):
        return
    handler = LineHandler(_stdout() if fd is None else fd)
    handler.setFormatter(JsonFormatter(environ.get("GOOGLE_CLOUD_PROJECT", "")))
    root.addHandler(handler)
    _spare_what_no_line_says()
    name = environ.get("READYGATE_LOG_LEVEL", "").strip().upper() or "INFO"
    root.setLevel(_LEVELS.get(name, logging.INFO))
    _quieten_libraries(root.level)
    if name not in _LEVELS:
        expected = ", ".join(_LEVELS)
        logging.getLogger("readygate").warning("READYGATE_LOG_LEVEL: found %r, expected %s", name, expected)


def _spare_what_no_line_says() -> None:
    """Let records be made without caller, thread and process: https://docs.python.org/3/howto/logging.html."""
    logging._srcfile = None  # noqa: SLF001 - the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _quieten_libraries(level: int) -> None:
    noise = _NoiseHandler()
    for name in _NOISY:
        logger = logging.getLogger(name)
        logger.addHandler(noise)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    # what clients put into tracestate is no news of ours
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    server = logging.getLogger("aiohttp.server")
    server.setLevel(
        logging.DEBUG
    )  # aiohttp reports garbage instead of HTTP at DEBUG; the filter sorts it out
    server.addFilter(_BadRequests(level))


def _stdout() -> int:
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by something without a descriptor
        return 1


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: severity, time, message, the record's `fields`, trace ids."""

    def __init__(self, project: str = "") -> None:
        super().__init__()
        self._project = project
        self._second = -1
        self._prefix = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, object] = getattr(record, "fields", {})
        # a record with fields and no arguments has a constant of ours for its message
        constant = fields and not record.args
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": self._time(record.created),
            "message": record.msg if constant else redact.text(record.getMessage())[:_MAX_TEXT_CHARS],
            "logger": record.name,
        }
        line |= fields
        if self._project and (trace_id := fields.get("trace_id")):
            line["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace_id}"
            line["logging.googleapis.com/spanId"] = fields.get("span_id")
            line["logging.googleapis.com/trace_sampled"] = bool(getattr(record, "sampled", False))
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


class LineHandler(logging.Handler):
    """Writes lines to a descriptor without waiting for its reader. Lines that find no room are counted."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after those that wait; called under the handler's lock."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "replace")
        except Exception:  # noqa: BLE001 - a log call must not raise (logging's own rule)
            self.handleError(record)
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._drain()
        if len(self._waiting) >= _MAX_WAITING:
            self._lost += 1
            return
        if self._lost:
            self._waiting.append(self._lost_line())
            self._lost = 0
        # cut into pieces that a writable pipe takes whole
        self._waiting.extend(line[at : at + _MAX_LINE_BYTES] for at in range(0, len(line), _MAX_LINE_BYTES))
        self._drain()

    def flush(self) -> None:
        """Write what waits, as far as the reader takes it now."""
        with self.lock:  # type: ignore[union-attr] # set by logging.Handler.__init__
            self._drain()

    def _drain(self) -> None:
        waiting = self._waiting
        while waiting and self._takes():
            try:
                written = os.write(self._fd, waiting[0])
            except OSError:  # BlockingIOError: the reader is slow; anything else: it has gone
                return
            if written < len(waiting[0]):
                waiting[0] = waiting[0][written:]
            else:
                waiting.popleft()

    def _takes(self) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))

    def _lost_line(self) -> bytes:
        line = {"severity": "WARNING", "message": f"{self._lost} log lines lost: stdout is not being read"}
        return json.dumps(line).encode() + b"\n"


class _BadRequests(logging.Filter):
    """Turns aiohttp's report of an unreadable request, a traceback, into one line with the peer's address.

    The parser's message quotes the bytes that it choked on; they may hold a secret, so only its kind is told.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; False drops it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            peer = record.args[0] if isinstance(record.args, tuple) and record.args else None
            record.fields = {"client_address": peer, "status": error.code, "error": type(error).__name__}
            record.msg, record.args = "bad request: not HTTP, or beyond the limits", ()
            record.exc_info, record.exc_text = None, None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return record.levelno >= self._level


class _NoiseHandler(logging.Handler):
    """Passes what exporters complain about on to our own logger, one line a minute at most."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_s = 0.0
        self._held_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._held_back += 1
            return
        self._next_s = now_s + _NOISE_EVERY_S
        said = record.getMessage().partition("\n")[0][:300]
        fields = {"held_back": self._held_back} if self._held_back else {}
        self._held_back = 0
        logging.getLogger("readygate.telemetry").warning(
            "%s: %s", record.name, said, extra={"fields": fields}
        )
