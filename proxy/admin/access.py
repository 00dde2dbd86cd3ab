"""Who may ask the admin listener: those who know its name, come from no other page, and have the token.

Health is answered to everybody: probes come by address, and it says nothing but yes or no.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from proxy.admin.health import HEALTH_NAMES
from proxy.edge.headers import origin_form
from proxy.guard import Denial, bad_host, host_denied, origin_denied
from proxy.policy.origins import SAME, checked_host, split_authority

if TYPE_CHECKING:
    from aiohttp import web

TOKEN_VARIABLE: Final = "READYGATE_ADMIN_TOKEN"  # noqa: S105 - the name of one
_MIN_TOKEN_CHARS: Final = 16
_HTTP_1_1: Final = (1, 1)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_LOOPBACK_NAME: Final = "localhost"
NO_TOKEN: Final = Denial("token", 401, "Unauthorized", "the admin token is required")
_FOREIGN_HOST: Final = Denial(
    "host", 421, "Misdirected Request", "the admin listener does not go by this name (--admin-hosts)"
)
_OTHER_PAGE: Final = Denial("origin", 403, "Forbidden", "another site's page may not ask the admin listener")


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """What a request of the admin listener has to show.

    `token` "": none. `hosts`: names that the listener goes by, beside those of loopback. `addresses`: it goes
    by any address as well.
    """

    token: str = field(default="", repr=False)
    hosts: frozenset[str] = frozenset()
    addresses: bool = False

    @classmethod
    def parse(cls, listen: str, hosts: str, token: str) -> Self:
        """Return the access to a listener at this host. Raise ValueError with one clear line.

        `hosts`: further names, separated by commas.
        """
        if token and (len(token) < _MIN_TOKEN_CHARS or _TOKEN.fullmatch(token) is None):
            expected = f"at least {_MIN_TOKEN_CHARS} characters, ASCII without spaces or line ends"
            raise ValueError(f"{TOKEN_VARIABLE}: expected {expected}")
        local = is_loopback(listen)
        if not local and not token:
            told = f"--admin {listen} can be reached from other machines: {TOKEN_VARIABLE} has to be set"
            raise ValueError(told)
        own = [] if local or _is_address(listen) else [listen]
        names = [*own, *(name.strip() for name in hosts.split(",") if name.strip())]
        try:
            known = frozenset(map(checked_host, names))
        except ValueError as error:
            expected = f"names separated by commas, each {error}"
            raise ValueError(f"--admin-hosts {hosts!r}: expected {expected}") from None
        return cls(token, known, addresses=not local)

    def denial(self, request: web.BaseRequest) -> Denial | None:
        """Return why a request is refused; None if it is not."""
        if request.path.removeprefix("/") in HEALTH_NAMES:
            return None
        if denied := self._host_denied(request):
            return denied
        if _from_another_page(request):
            return _OTHER_PAGE
        return None if self._knows_token(request.headers.get("Authorization", "")) else NO_TOKEN

    def _host_denied(self, request: web.BaseRequest) -> Denial | None:
        """A page whose name was made to resolve to this address (DNS rebinding) is told apart by the name."""
        fields = request.headers.getall("Host", [])
        _, authority = origin_form(request.method, request.raw_path)
        host = "".join(fields[:1]) if authority is None else authority.decode("latin-1")
        if denied := bad_host(fields, host, required=request.version >= _HTTP_1_1):
            return denied
        if not host:
            return None  # HTTP/1.0 without a name: no browser
        name, _ = split_authority(host)
        if is_loopback(name) or (self.addresses and _is_address(name)):
            return None
        return _FOREIGN_HOST if host_denied(self.hosts, host) else None

    def _knows_token(self, authorization: str) -> bool:
        if not self.token:
            return True
        scheme, _, credentials = authorization.partition(" ")
        shown = credentials.strip(" ").encode("utf-8", "surrogateescape")
        if scheme.lower() == "basic":
            shown = _password(shown)
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(shown, self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether a host, with or without brackets, is reached from this machine alone."""
    host = host.strip("[]").lower()
    return host == _LOOPBACK_NAME or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _from_another_page(request: web.BaseRequest) -> bool:
    """Whether a browser says that another origin's page asks.

    https://www.w3.org/TR/fetch-metadata/. A user who follows a link from elsewhere is let in: what is shown
    then, that page cannot read.
    """
    headers = request.headers
    if origin_denied((SAME,), headers.getall("Origin", []), headers.get("Host", "")):
        return True
    if headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}:
        return False
    follows_link = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return not follows_link


def _password(credentials: bytes) -> bytes:
    """Return the password of Basic credentials (RFC 7617 section 2), whoever the user says to be."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (ValueError, binascii.Error):
        return b""
