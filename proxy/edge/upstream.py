"""Where the backend is: `http://host:port`, `https://host:port` or `unix:/path`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.policy.problems import without_password

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of the backend. `path` is the socket's path for `unix`, empty otherwise."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def tls(self) -> bool:
        """Whether the upstream leg is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """`host:port` as a URL spells it; `localhost` for a Unix socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme, self.port) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


def parse_upstream(text: str) -> Upstream:
    """Parse `--upstream`. Raise ValueError with a line that a user can act on."""
    shown = repr(without_password(text))
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"upstream {shown}: expected unix:/absolute/path")
        return Upstream("unix", "localhost", 80, path)
    parts = urlsplit(text)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"upstream {shown}: expected http://HOST:PORT, https://HOST:PORT or unix:/path")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"upstream {shown}: only scheme, host and port belong here; paths pass unchanged")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"upstream {shown}: the port must be a number from 1 to 65535") from None
    return Upstream(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme])
