"""Our own error answers: `application/problem+json` (RFC 9457), safe to show to anybody."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable


def problem(
    status: int,
    title: str,
    detail: str | None = None,
    retry_after_s: float | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> web.Response:
    """Return an error response with a problem document as its body.

    `title` says what happened and is the same each time; `detail` is about this time. Neither may carry what
    a stranger must not learn: no addresses behind the gate, no exception texts, no tokens. `retry_after_s` is
    rounded up to whole seconds.
    """
    members: dict[str, object] = {"title": title, "status": status}
    if detail is not None:
        members["detail"] = detail
    response = web.Response(
        status=status,
        body=json.dumps(members).encode(),
        content_type="application/problem+json",
    )
    # aiohttp would name itself and its version.
    response.headers["Server"] = "readygate"
    response.headers["Cache-Control"] = "no-store"
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(retry_after_s))
    for name, value in headers:
        response.headers.add(name, value)
    return response
