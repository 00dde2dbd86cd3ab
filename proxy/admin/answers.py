"""What every answer of the admin listener has: how to read it, and that no other site is to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from proxy.admin.health import problem

if TYPE_CHECKING:
    from http import HTTPStatus


def headers(content_type: str) -> dict[str, str]:
    """Return the header fields of an answer.

    There is no CORS among them, so no other origin reads it by script; nor can it be embedded or framed.
    """
    return {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "Server": "readygate",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": "frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }


def answer(body: bytes, content_type: str, status: int = 200) -> web.Response:
    """Return a whole answer."""
    return web.Response(body=body, status=int(status), headers=headers(content_type))


def refusal(status: HTTPStatus, detail: str = "") -> web.Response:
    """Return a problem document (RFC 9457) as an answer."""
    return answer(problem(status, detail), "application/problem+json", status)
