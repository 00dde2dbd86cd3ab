"""The files of the live page, as the package has them: no other site is asked for anything."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from proxy.admin.answers import answer

if TYPE_CHECKING:
    from aiohttp import web

PREFIX: Final = "/page/"
INDEX: Final = "index.html"
# No script, style or image but the gate's own, and nobody may frame it.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


ENDPOINTS: Final = {
    "/": "the live page in a browser, this list elsewhere",
    "/livez": "is the process alive (200 or 503)",
    "/readyz": "are new sessions welcome (200 or 503)",
    "/startupz": "is the start over (200 or 503)",
    "/metrics": "metrics in the Prometheus text format",
    "/sessions": "sessions now, as JSON",
    "/handshakes": "the last 200 handshakes, each stage of both legs, as JSON",
    "/policy": "the effective policy, as YAML",
    "/events": "handshakes and sessions as they end, server-sent events",
}
STREAM: Final = "/page/events"


@cache
def page_file(name: str) -> tuple[bytes, str] | None:
    """Return a file of the page and its content type; None for a name that it does not have."""
    kind = _TYPES.get(name.rpartition(".")[2])
    if kind is None or name not in _names():
        return None
    return (files("proxy.admin") / "page" / name).read_bytes(), kind


@cache
def _names() -> frozenset[str]:
    return frozenset(entry.name for entry in (files("proxy.admin") / "page").iterdir())


def is_of_page(path: str) -> bool:
    """Whether the live page has such a file."""
    return path.startswith(PREFIX) and page_file(path.removeprefix(PREFIX)) is not None


def page(request: web.BaseRequest) -> web.Response:
    """Return a file of the live page; for `/` the page itself, or the plain list to who wants no HTML."""
    if request.path == "/" and "text/html" not in request.headers.get("Accept", ""):
        lines = [f"{path:<12}{what}" for path, what in ENDPOINTS.items()]
        response = answer(("readygate\n\n" + "\n".join(lines) + "\n").encode(), "text/plain; charset=utf-8")
    else:
        found = page_file(INDEX if request.path == "/" else request.path.removeprefix(PREFIX))
        assert found is not None
        response = answer(*found)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
    response.headers["Vary"] = "Accept"
    return response
