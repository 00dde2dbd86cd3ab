"""Claims as header fields for the backend, which may trust them: nobody else can send one by that name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.guard.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Pair = tuple[bytes, bytes]

_MOST_VALUE_BYTES: Final = 8192
# What is sent as it is: visible ASCII and inner spaces. `%` is not, so that a value can be read back.
_ENCODED: Final = re.compile(r"[^\x21-\x24\x26-\x7e ]|^ +| +$")


def claim_fields(wanted: Sequence[tuple[str, str]], claims: Mapping[str, Any]) -> list[Pair]:
    """Return a field for each wanted (header, claim) that the token has. Raise RefusedError for a huge one.

    Text is sent as it is but for `%` and what is not visible ASCII, which is percent-encoded (UTF-8);
    everything else as compact JSON, likewise. So no value can end its line or name a further field.
    """
    return [
        (header.encode(), field_value(claims[claim]))
        for header, claim in wanted
        if claims.get(claim) is not None
    ]


def field_value(value: object) -> bytes:
    """Return one claim's value as that of a field. Raise RefusedError if it has more than 8 KiB."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    field = _ENCODED.sub(_percent, text).encode("ascii")
    if len(field) > _MOST_VALUE_BYTES:
        raise RefusedError(Reason.CLAIM_TOO_LONG)
    return field


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace"))


def alias(name: bytes) -> bytes:
    """Return what a field's name comes to in a backend: CGI and WSGI do not tell `-` from `_`, nor case."""
    return name.lower().replace(b"_", b"-")


def without_spoofed(headers: Iterable[Pair], names: frozenset[bytes]) -> list[Pair]:
    """Return the pairs without those whose name comes to one of `names` (see `alias`)."""
    return [pair for pair in headers if alias(pair[0]) not in names]
