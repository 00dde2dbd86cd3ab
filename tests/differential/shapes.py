"""All exchanges of known shape, each with a name of its own."""

from __future__ import annotations

from dataclasses import replace

from tests.differential.courses import ends, interim, old_clients, streams
from tests.differential.requests import bodies, fields, methods, targets
from tests.differential.responses import answers, statuses

GROUPS = {
    "method": methods,
    "target": targets,
    "request fields": fields,
    "request body": bodies,
    "HTTP/1.0": old_clients,
    "interim": interim,
    "status and fields": statuses,
    "response body": answers,
    "stream": streams,
    "end": ends,
}
SHAPES = [replace(each, name=f"{group}: {each.name}") for group, made in GROUPS.items() for each in made()]
