"""Where a gate listens, as flags and variables say it."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

_MAX_PORT: Final = 65535
_EVERY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - and the loopback address among them


class Address(NamedTuple):
    """Where to listen. Port 0: any free one.

    A named tuple and no dataclass: `readygate health` wants it, and importing dataclasses takes milliseconds.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, flag: str) -> Self:
        """Parse `HOST:PORT`, `[IPv6]:PORT` or `:PORT`. Raise ValueError with one clear line."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > _MAX_PORT or (":" in host and host[0] != "["):
            raise ValueError(f"{flag} {text!r}: expected HOST:PORT, with a port from 0 to {_MAX_PORT}")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - `:PORT` means every interface

    def from_here(self) -> Self:
        """Return the address at which this machine itself reaches who listens here."""
        return self._replace(host=_EVERY.get(self.host, self.host))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
