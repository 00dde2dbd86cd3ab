"""One line per event on stdout: JSON, or words for whoever reads it on a terminal.

A reader that stops reading never stops us: a line is written only when the descriptor takes it at once,
otherwise it waits in a bounded queue until the next one. What is said again and again is said now and then.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING

from proxy.telemetry.lines import JsonFormatter, TextFormatter

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
_MAX_WAITING = 1000
_NOISE_EVERY_S = 60.0
# So many lines of a kind in so long a time; what is beyond is counted, and told with the next one.
_REPEATS = 20
_REPEATS_S = 10.0
_KINDS = 256
_NO_FIELDS: Mapping[str, object] = MappingProxyType({})
_FORMATS = ("auto", "json", "text")
_NOISY = ("opentelemetry", "urllib3", "requests", "grpc")


def setup(environ: Mapping[str, str], fd: int | None = None) -> None:
    """Send all logging of the process to `fd` (default: stdout) as lines. A second call changes nothing.

    READYGATE_LOG_LEVEL is DEBUG, INFO (default), WARNING, ERROR or CRITICAL; READYGATE_LOG_FORMAT `json`,
    `text`, or `auto` (default): text on a terminal, else JSON. Other values are logged and ignored.
    """
    root = logging.getLogger()
    if any(isinstance(handler, LineHandler) for handler in root.handlers):
        return
    fd = _stdout() if fd is None else fd
    handler = LineHandler(fd)
    wanted = environ.get("READYGATE_LOG_FORMAT", "").strip().lower() or "auto"
    handler.setFormatter(_formatter(environ, wanted, fd))
    handler.addFilter(Repeats())
    root.addHandler(handler)
    _spare_what_no_line_says()
    name = environ.get("READYGATE_LOG_LEVEL", "").strip().upper() or "INFO"
    root.setLevel(_LEVELS.get(name, logging.INFO))
    _quieten_libraries(root.level)
    if name not in _LEVELS:
        expected = ", ".join(_LEVELS)
        logging.getLogger("readygate").warning("READYGATE_LOG_LEVEL: found %r, expected %s", name, expected)
    if wanted not in _FORMATS:
        expected = ", ".join(_FORMATS)
        logging.getLogger("readygate").warning(
            "READYGATE_LOG_FORMAT: found %r, expected %s", wanted, expected
        )


def _formatter(environ: Mapping[str, str], wanted: str, fd: int) -> logging.Formatter:
    terminal = os.isatty(fd)
    if wanted == "text" or (wanted != "json" and terminal):
        # https://no-color.org: "when present and not an empty string (regardless of its value)"
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return TextFormatter(colour=terminal and not plain)
    project = environ.get("GOOGLE_CLOUD_PROJECT", "")
    return JsonFormatter(project, http_request=bool(project or environ.get("K_SERVICE")))


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


class Repeats(logging.Filter):
    """Lets through twenty warnings or errors of a kind in 10 s; the next one tells how many it held back.

    A kind is a logger and a message before its arguments are put in. The lines of sessions (records that say
    whether they are `sampled`) are no repeats: each is about another one. Nor are those of refusals (with
    `refused` in their fields): `guard.Quieter` has counted them already, one line a reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], list[float]] = {}  # [since, let through, held back]

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the record."""
        fields: Mapping[str, object] = getattr(record, "fields", _NO_FIELDS)
        if record.levelno < logging.WARNING or hasattr(record, "sampled") or "refused" in fields:
            return True
        kind, now_s = (record.name, str(record.msg)), time.monotonic()
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            known = self._kinds[kind] = [now_s, 0, 0]
        elif now_s - known[0] >= _REPEATS_S:
            known[:2] = now_s, 0
        if known[1] >= _REPEATS:
            known[2] += 1
            return False
        known[1] += 1
        if known[2]:
            record.fields = {**fields, "held_back": int(known[2])}
            known[2] = 0
        return True


class _BadRequests(logging.Filter):
    """Turns aiohttp's report of an unreadable request, a traceback, into one line with the peer's address.

    The parser's message quotes the bytes that it choked on; they may hold a secret, so only its kind is told.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; False drops it."""
        from aiohttp.http_exceptions import HttpProcessingError  # noqa: PLC0415 - who logs here has it imported

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
