"""Origins and host names as a policy lists them and as requests carry them, in one spelling.

In lower case, without the port that the scheme has anyway, without the dot that may end a name. `*.` at the
front of a listed name stands for one or more labels.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SAME: Final = "same"
NULL: Final = "null"
ORIGIN_FORM: Final = 'same, "null", or an origin such as https://app.example.com or https://*.example.com'
HOST_FORM: Final = "a host such as example.com, *.example.com or example.com:8443"

_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_MAX_CHARS: Final = 255
# RFC 3986 section 3.2.2: reg-name = *( unreserved / pct-encoded / sub-delims ). Not empty: RFC 9110 section
# 4.2.1, "A recipient that processes such a URI reference MUST reject it as invalid".
_CHARS: Final = r"[A-Za-z0-9._~!$&'()*+,;=-]"
_AUTHORITY: Final = re.compile(
    rf"(\[[0-9A-Fa-f:.]+\]|(?!:|\Z){_CHARS}*(?:%[0-9A-Fa-f]{{2}}{_CHARS}*)*)(?::([0-9]{{0,5}}))?"
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


def split_authority(text: str) -> tuple[str, str]:
    """Return host and port (`""` for none) of an authority without user name. Raise ValueError."""
    match = _AUTHORITY.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is None:
        raise ValueError(HOST_FORM)
    host, port = match[1].lower(), match[2] or ""
    if host.startswith("["):
        host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
    elif host != ".":
        host = host.removesuffix(".")
    return host, port.lstrip("0") or port[:1]


def is_authority(text: str) -> bool:
    """Whether a text is an authority without user name; asked of every request."""
    match = _AUTHORITY.fullmatch(text) if len(text) <= _MAX_CHARS else None
    return match is not None and (match[1][0] != "[" or _is_ipv6(match[1][1:-1]))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def split_origin(text: str) -> tuple[str, str]:
    """Return scheme and authority of a serialised origin (RFC 6454 section 6.2). Raise ValueError.

    The authority has no port where the scheme has it anyway.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or _SCHEME.fullmatch(scheme) is None:
        raise ValueError(ORIGIN_FORM)
    return scheme.lower(), authority_of(rest, scheme.lower())


def authority_of(text: str, scheme: str) -> str:
    """Return an authority in its one spelling under this scheme. Raise ValueError."""
    host, port = split_authority(text)
    return host if port in {"", _DEFAULT_PORTS.get(scheme)} else f"{host}:{port}"


def spellings(name: str) -> Iterator[str]:
    """Yield the name as it may be listed: itself, then with ever more of its labels as a wildcard."""
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"


def checked_origin(text: str) -> str:
    """Return a listed origin in its one spelling. Raise ValueError saying what one is like."""
    if text in {SAME, NULL}:
        return text
    try:
        scheme, authority = split_origin(text)
        _check_name(split_authority(authority)[0])
    except ValueError:
        raise ValueError(ORIGIN_FORM) from None
    return f"{scheme}://{authority}"


def checked_host(text: str) -> str:
    """Return a listed host in its one spelling. Raise ValueError saying what one is like."""
    try:
        host, port = split_authority(text)
        _check_name(host)
    except ValueError:
        raise ValueError(HOST_FORM) from None
    return f"{host}:{port}" if port else host


def _check_name(host: str) -> None:
    """Raise ValueError for what no list should have: a wildcard elsewhere than in front, odd characters."""
    if _NAME.fullmatch(host) is None:
        raise ValueError(host)
