"""Logging of its own for each test, into a pipe."""

from __future__ import annotations

import json
import logging
import os

import pytest

NAMES = [
    "",
    "aiohttp.server",
    "opentelemetry",
    "opentelemetry.trace",
    "urllib3",
    "requests",
    "grpc",
    "readygate.session",
]


@pytest.fixture(autouse=True)
def untouched_logging():
    """Give every test, and those after it, logging as it was."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one, one.level, one.handlers[:], one.filters[:], one.propagate) for one in loggers]
    logging.getLogger("readygate.session").setLevel(logging.NOTSET)
    yield
    for one, level, handlers, filters, propagate in before:
        one.setLevel(level)
        one.handlers[:], one.filters[:], one.propagate = handlers, filters, propagate


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read(reader: int) -> list[dict]:
    parts = []
    while True:
        try:
            part = os.read(reader, 1 << 20)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return [json.loads(line) for line in b"".join(parts).splitlines()]
