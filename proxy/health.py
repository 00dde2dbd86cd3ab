"""`readygate health`: asks a running gate how it is, for health checks where there is no shell and no curl.

It runs every few seconds, on the gate's own CPU: it imports little, and nothing of the gate.
"""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.address import Address

ENDPOINTS: Final = ("livez", "readyz", "startupz")
_LONGEST_ANSWER_BYTES: Final = 4096


class UnhealthyError(Exception):
    """The gate does not answer, or says no; the text is why, in a few words."""


def ask(address: Address, endpoint: str, *, tls: bool, timeout_s: float) -> None:
    """Ask the gate at `address` for `livez`, `readyz` or `startupz`; return when that is well.

    `timeout_s` bounds the connect and each wait for a part of the answer. Raise UnhealthyError.
    """
    try:
        status, body = _get(address, f"/_readygate/{endpoint}", tls=tls, timeout_s=timeout_s)
    except TimeoutError:
        raise UnhealthyError(f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise UnhealthyError(f"no answer: {error.strerror or error}") from None
    except (UnicodeError, InvalidURL):
        raise UnhealthyError("not the name of a host") from None
    except HTTPException:
        raise UnhealthyError("no answer in HTTP") from None
    _judge(status, body)


def _get(address: Address, path: str, *, tls: bool, timeout_s: float) -> tuple[int, bytes]:
    """Return status and body. Raise what http.client raises."""
    connection = _over_tls(address, timeout_s) if tls else HTTPConnection(*address, timeout=timeout_s)
    with closing(connection):
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(_LONGEST_ANSWER_BYTES)


def _over_tls(address: Address, timeout_s: float) -> HTTPSConnection:
    """Return a connection that takes any certificate: it stays on this machine and says no secret."""
    import ssl  # noqa: PLC0415 - only these want it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(*address, timeout=timeout_s, context=context)


def _judge(status: int, body: bytes) -> None:
    """Return if this is how a gate says that it is well. Raise UnhealthyError."""
    try:
        told = json.loads(body)
        word, reasons = told["status"], ", ".join(told.get("reasons", ()))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UnhealthyError(f"{status}, which is no answer of a gate") from None
    if status != HTTPStatus.OK or word != "ok":
        raise UnhealthyError(f"{status} {word}" + f": {reasons}" * bool(reasons))
