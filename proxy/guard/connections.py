"""Which client connection has to go when there is no room for one more: the one that has waited longest.

A connection costs its client nothing and the process a descriptor, which a session may need. One that waits
for a request (the first, or the next) can be ended without harm; RFC 9112 section 9.5 lets a server do so at
any time.
"""

from __future__ import annotations

from typing import Generic, TypeVar

C = TypeVar("C")


class Connections(Generic[C]):
    """The client connections of a process that are no session. `descriptors` may be used by all there is.

    A connection `came`, is `asking` while a request of it is served, `waits` after it, and `went`, also when
    it has become a session.
    """

    __slots__ = ("_asking", "_descriptors", "_waiting")

    def __init__(self, descriptors: int) -> None:
        self._descriptors = descriptors
        self._waiting: dict[C, None] = {}  # in the order in which their waiting began
        self._asking: set[C] = set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._asking)

    def came(self, connection: C) -> None:
        """Count one more; it has not asked for anything yet."""
        self._waiting[connection] = None

    def asking(self, connection: C) -> None:
        """Note that a request of it is being served."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._asking.add(connection)

    def waits(self, connection: C) -> None:
        """Note that its request is over, unless it is gone."""
        if connection in self._asking:
            self._asking.remove(connection)
            self._waiting[connection] = None

    def went(self, connection: C) -> None:
        """Forget it."""
        self._waiting.pop(connection, None)
        self._asking.discard(connection)

    def surplus(self, sessions: int, most: int | None) -> C | None:
        """Return the connection that has to go, None if none has to, or none can.

        `most`: so many may there be, whatever the descriptors. A session needs two descriptors, and so does a
        request that is served: its client's and the upstream's.
        """
        used = len(self._waiting) + 2 * (len(self._asking) + sessions)
        if used <= self._descriptors and (most is None or len(self) <= most):
            return None
        return next(iter(self._waiting), None)
