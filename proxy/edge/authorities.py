"""Importing aiohttp without the authorities that it reads meanwhile."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def authorities_unread() -> Iterator[None]:
    """Let contexts that are made meanwhile trust nobody; only while the process has one thread.

    aiohttp makes two when it is imported, for requests that bring none, and reads all that the system trusts
    for each: a tenth of the time that starting takes. Ours are made when they are needed
    (`edge.http.upstream_tls`, also for key sets). A request that brought none after all would fail, as it
    could verify nobody.
    """

    def nobody(_: ssl.SSLContext) -> None:
        return None

    inherited = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = nobody  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.set_default_verify_paths = inherited  # type: ignore[method-assign]
