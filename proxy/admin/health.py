"""Liveness, readiness and startup, for the admin listener and for the main port under `/_readygate/`."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.admin.state import AdminState

HEALTH_NAMES = ("livez", "readyz", "startupz")


def health(state: AdminState, name: str) -> tuple[int, bytes]:
    """Return status (200 or 503) and JSON body of `livez`, `readyz` or `startupz`; 404 for other names."""
    questions = {"livez": state.alive, "readyz": state.ready, "startupz": state.started}
    question = questions.get(name)
    if question is None:
        return HTTPStatus.NOT_FOUND, problem(HTTPStatus.NOT_FOUND)
    answer = question()
    status = HTTPStatus.OK if answer.ok else HTTPStatus.SERVICE_UNAVAILABLE
    told: dict[str, object] = {"status": "ok" if answer.ok else "unavailable"}
    if answer.reasons:
        told["reasons"] = list(answer.reasons)
    return status, as_json(told)


def problem(status: HTTPStatus, detail: str = "") -> bytes:
    """Return a problem details body (RFC 9457) for `application/problem+json`."""
    told: dict[str, object] = {"title": status.phrase, "status": status.value}
    if detail:
        told["detail"] = detail
    return as_json(told)


def as_json(value: object) -> bytes:
    """Return compact JSON with an end of line, for people with curl."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
