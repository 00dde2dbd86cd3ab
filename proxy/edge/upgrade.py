"""What is a WebSocket handshake, and whether it is one that RFC 6455 4.2.1 allows."""

from __future__ import annotations

import base64
import binascii
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp.http import HttpVersion11

from proxy.edge.problem import problem

if TYPE_CHECKING:
    from aiohttp import web

_KEY_BYTES: Final = 16


class BadUpgrade(Exception):  # noqa: N818 - it names the thing, not the fault
    """An upgrade request that breaks RFC 6455 4.2.1. Carries its own answer."""

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status

    def response(self) -> web.Response:
        """Return what the client is told."""
        headers = [("Sec-WebSocket-Version", "13")]  # RFC 6455 4.2.2: "indicating the version(s)"
        if self.status is HTTPStatus.UPGRADE_REQUIRED:
            headers += [("Upgrade", "websocket"), ("Connection", "Upgrade, close")]  # RFC 9110 15.5.22
        return problem(self.status, "Bad WebSocket upgrade", self.reason, headers=headers)


def asks_for_websocket(request: web.BaseRequest) -> bool:
    """Return whether a request means to be a WebSocket handshake, well-formed or not.

    Some load balancers add `Connection: upgrade` and `Upgrade: websocket` to ordinary requests; only a
    handshake has `Sec-WebSocket-*` fields of its own.
    """
    headers = request.headers
    return request.method == "GET" and ("Sec-WebSocket-Key" in headers or "Sec-WebSocket-Version" in headers)


def check_upgrade(request: web.BaseRequest) -> bytes:
    """Judge an upgrade request by RFC 6455 4.2.1; return its key. Raise BadUpgrade."""
    headers = request.headers
    if request.version < HttpVersion11:
        raise BadUpgrade("HTTP/1.1 or higher is required.")
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        raise BadUpgrade("The Upgrade field must be websocket.", HTTPStatus.UPGRADE_REQUIRED)
    options = ",".join(headers.getall("Connection", [])).lower().split(",")
    if "upgrade" not in (option.strip() for option in options):
        raise BadUpgrade("The Connection field must contain Upgrade.")
    versions = headers.getall("Sec-WebSocket-Version", [])
    if not versions:
        raise BadUpgrade("The Sec-WebSocket-Version field is missing.")
    if versions != ["13"]:
        raise BadUpgrade("Only version 13 is spoken here.", HTTPStatus.UPGRADE_REQUIRED)
    keys = headers.getall("Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        # "a base64-encoded value that, when decoded, is 16 bytes in length"
        raise BadUpgrade("One Sec-WebSocket-Key of 16 bytes in base64 is required.")
    if request.body_exists:
        raise BadUpgrade("An upgrade request has no body.")
    return keys[0].encode()


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (ValueError, binascii.Error):
        return False
