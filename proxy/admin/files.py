"""The files of the live page, as the package has them: no other site is asked for anything."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

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
