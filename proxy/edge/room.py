"""Room for client connections: who asks for nothing keeps no descriptor from requests and sessions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.guard import CONNECTIONS, Connections, most_descriptors

if TYPE_CHECKING:
    from proxy.edge.shared import Shared
    from proxy.edge.takeover import HeadDeadline

_log = logging.getLogger("readygate.accept")


class Room:
    """The connections of a process that are no session. `make` it whenever there is one more of anything."""

    __slots__ = ("_connections", "_shared", "asking", "waits", "went")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._connections: Connections[HeadDeadline] = Connections(most_descriptors())
        self.asking = self._connections.asking
        self.waits = self._connections.waits
        self.went = self._connections.went

    def __len__(self) -> int:
        return len(self._connections)

    def came(self, connection: HeadDeadline) -> None:
        """Count one more connection, and make room for it."""
        self._connections.came(connection)
        self.make()

    def make(self) -> None:
        """End the connection that has waited longest for a request, if its place is needed."""
        shared = self._shared
        most = shared.policy.default.settings.limits.connections
        surplus = self._connections.surplus(len(shared.sessions), most)
        if surplus is None:
            return
        self.went(surplus)
        surplus.force_close()
        shared.telemetry.metrics.limit_hit(CONNECTIONS.name)
        ended = shared.quieter.refused(CONNECTIONS, shared.loop.time())
        if ended is not None:
            _log.warning("limit reached", extra={"fields": {"limit": CONNECTIONS.name, "refused": ended}})
