"""A key set that is fetched and kept; refreshed in time, for a key that it does not have, never often."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import aiohttp

from proxy.guard import BadKeyError
from proxy.guard.keys import fitting, key_set
from proxy.telemetry import redact

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from proxy.guard.keys import Key
    from proxy.policy import JwksSettings

_log = logging.getLogger("readygate.jwks")
_MOST_BYTES: Final = 1 << 18
_PLAIN: Final = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
# A set is fetched anew in the background from this share of its time on, so that nobody waits for it.
_EARLY: Final = 0.8


class FetchError(Exception):
    """What came is no key set. The text is safe to log."""


class Jwks:
    """The key set of one URL. Make it in a running loop; `told` hears `ok` or `failed` of each fetch.

    However many ask, one fetch is under way at a time, and the next begins no earlier than `min_refresh_s`
    after the last one began: who sends made-up key ids cannot make the gate fetch. A fetch that fails leaves
    the keys as they are. They are usable for `cache_s`, and while they cannot be fetched for `stale_s` more.
    """

    def __init__(
        self,
        settings: JwksSettings,
        algorithms: tuple[str, ...],
        tls: ssl.SSLContext | None,
        told: Callable[[str], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock`: seconds that never go back; the loop's own, unless a test has another."""
        self.settings = settings
        self.algorithms = algorithms
        self.tls = tls
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._now_s = clock or self._loop.time
        self._keys: tuple[Key, ...] = ()
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether there are keys to go by."""
        age_s = self._age_s
        return age_s is not None and age_s < self.settings.cache_s + self.settings.stale_s

    @property
    def may_refresh(self) -> bool:
        """Whether `refresh` would do anything: one is under way, or it is time for one."""
        if self._fetching is not None:
            return True
        return self._tried_s is None or self._now_s() - self._tried_s >= self.settings.min_refresh_s

    @property
    def _age_s(self) -> float | None:
        return None if self._fetched_s is None else self._now_s() - self._fetched_s

    def fitting(self, algorithm: str, kid: str | None) -> list[Key]:
        """Return the key that may have signed a token with this header, if it is here.

        A token without a key id is taken only where one key fits: it is to cost one verification. A set that
        grows old is fetched in the background.
        """
        age_s = self._age_s
        if age_s is not None and age_s >= self.settings.cache_s * _EARLY and self.may_refresh:
            self._fetch_soon()
        if not self.usable:
            return []
        found = fitting(self._keys, algorithm, kid)
        return found if len(found) == 1 else []

    def warm(self) -> None:
        """Fetch the set if there is none, without waiting for it."""
        if self._fetched_s is None and self.may_refresh:
            self._fetch_soon()

    async def refresh(self) -> None:
        """Wait for the fetch that is under way, or for one of our own. It is over after `timeout_s`."""
        await asyncio.shield(self._fetch_soon())

    def _fetch_soon(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._tried_s = self._now_s()
            self._fetching = self._loop.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._keys = await self._fetched()
            self._fetched_s = self._now_s()
            self._told("ok")
            _log.info("keys fetched", extra={"fields": {"url": self._where, "keys": len(self._keys)}})
        except (aiohttp.ClientError, OSError, ValueError, FetchError, BadKeyError) as error:
            said = str(error) if isinstance(error, FetchError | BadKeyError) else type(error).__name__
            fields = {"url": self._where, "error": said, "usable": self.usable}
            self._told("failed")
            _log.warning("keys cannot be fetched", extra={"fields": fields})
        finally:
            self._fetching = None

    @property
    def _where(self) -> str:
        address, question, query = self.settings.url.partition("?")
        return address + question + redact.query(query)

    async def _fetched(self) -> tuple[Key, ...]:
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s)
        connector = aiohttp.TCPConnector(ssl=True if self.tls is None else self.tls, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            # A redirect would lead to a host that the policy does not name.
            session.get(self.settings.url, allow_redirects=False, headers=_PLAIN) as response,
        ):
            if response.status != 200:  # noqa: PLR2004 - RFC 9110 section 15.3.1
                raise FetchError(f"status {response.status}")
            return key_set(_document(await _body(response)), self.algorithms)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise FetchError(f"more than {_MOST_BYTES} bytes")
    return bytes(body)


def _document(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise FetchError("not JSON") from None


@contextmanager
def not_read(transport: asyncio.Transport | None) -> Iterator[None]:
    """Stop reading from a client for a while; TCP holds back what it goes on to say."""
    if transport is None or transport.is_closing() or not transport.is_reading():
        yield
        return
    transport.pause_reading()
    try:
        yield
    finally:
        if not transport.is_closing():
            transport.resume_reading()
