"""Limits of the whole process at the door: who is turned away before anything is done for it.

The numbers are those of one process: with several workers each counts its own.
"""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.guard.denial import Denial
    from proxy.policy.settings import LimitSettings

# For listeners, logs, exporters, the pool of plain HTTP, and connections that are just coming or going.
_RESERVED_DESCRIPTORS: Final = 256
_MOST_DESCRIPTORS: Final = 1 << 20
_QUIET_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that was reached. Carries its own answer, safe to show; `passes`: asking again may help."""

    name: str
    status: int
    title: str
    detail: str
    passes: bool = True


_UNAVAILABLE: Final = (503, "Service unavailable")
HEADER_BYTES: Final = Limit(
    "header_bytes", 431, "Request Header Fields Too Large", "the request head is too long", passes=False
)
SESSIONS: Final = Limit("sessions", *_UNAVAILABLE, "too many sessions")
HANDSHAKES_PENDING: Final = Limit("handshakes_pending", *_UNAVAILABLE, "too many handshakes under way")
# Nobody is told: a connection that waits for a request just ends.
CONNECTIONS: Final = Limit("connections", *_UNAVAILABLE, "too many connections")
EARLY_BYTES_TOTAL: Final = Limit("early_bytes_total", *_UNAVAILABLE, "too many early bytes are held")
SESSIONS_PER_CLIENT: Final = Limit(
    "sessions_per_client", 429, "Too many requests", "too many sessions of this client"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What the process has to do now. `of_client`: sessions of the client that asks."""

    sessions: int
    handshakes_pending: int
    early_bytes: int
    of_client: int


def limit_reached(limits: LimitSettings, load: Load, head: int, most: int) -> Limit | None:
    """Return why one more session may not be begun, None if it may.

    `head`: bytes of its request head. `most`: so many sessions are possible at all; the policy can only ask
    for fewer.
    """
    if head > limits.header_bytes:
        return HEADER_BYTES
    if load.sessions >= (most if limits.sessions is None else min(limits.sessions, most)):
        return SESSIONS
    if limits.handshakes_pending is not None and load.handshakes_pending >= limits.handshakes_pending:
        return HANDSHAKES_PENDING
    if load.early_bytes >= limits.early_bytes_total:
        return EARLY_BYTES_TOTAL
    if limits.sessions_per_client is not None and load.of_client >= limits.sessions_per_client:
        return SESSIONS_PER_CLIENT
    return None


def head_bytes(method: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the size of a request head on the wire, with its empty line; `target` as aiohttp gives it."""
    line = len(method) + len(target.encode("utf-8", "surrogateescape")) + len("  HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + 4 for name, value in headers) + 2


class Clients:
    """How many sessions each client has. A client without an address is not counted."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self, address: str) -> int:
        """Return how many sessions this client has."""
        return self._sessions.get(address, 0)

    def came(self, address: str) -> None:
        """Count one more."""
        if address:
            self._sessions[address] = self._sessions.get(address, 0) + 1

    def went(self, address: str) -> None:
        """Count one less; nothing is kept of a client that has none left."""
        left = self._sessions.get(address, 0) - 1
        if left > 0:
            self._sessions[address] = left
        else:
            self._sessions.pop(address, None)


class Quieter:
    """Keeps a flood of refusals from being a flood of log lines: one line a reason (`name`) in 10 s.

    It counts before a line is made, and by reason, where the log's own limit (`telemetry.logs.Repeats`, for
    all other warnings) counts lines that were made. A line of this one has the count as `refused`.
    """

    __slots__ = ("_next_s", "_refused")

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}
        self._refused: dict[str, int] = {}

    def refused(self, why: Limit | Denial, at_s: float) -> int | None:
        """Count a refusal at `at_s` of a monotonic clock.

        Return how many there were since the last line, this one included, if it is time for the next; None if
        it is not.
        """
        count = self._refused.get(why.name, 0) + 1
        if at_s < self._next_s.get(why.name, at_s):
            self._refused[why.name] = count
            return None
        self._refused[why.name] = 0
        self._next_s[why.name] = at_s + _QUIET_S
        return count


def most_sessions() -> int:
    """Return for how many sessions there are descriptors: two each."""
    return max(most_descriptors() // 2, 1)


def most_descriptors() -> int:
    """Return how many descriptors there are for clients and upstreams: some are for other things."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(descriptors - _RESERVED_DESCRIPTORS, 2)


def raise_descriptor_limit() -> int:
    """Let the process open as many descriptors as the system allows it, at most 1,048,576; return the limit.

    Call it before sessions come. Where it may not be raised, it stays as it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
