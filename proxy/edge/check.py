"""Checking the tokens of a route: one is found, its key is got, it is verified. See `proxy/guard/`.

Imported by `proxy/edge/auth.py` alone, and only for a policy with `guard.jwt`: what it stands on (PyJWT,
cryptography) is a tenth of the time that starting takes.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.edge.http import upstream_tls
from proxy.edge.jwks import Jwks, not_read
from proxy.guard import BadKeyError, Found, Reason, RefusedError, claim_fields, find_token
from proxy.guard.keys import Key, fitting, read_keys
from proxy.guard.verify import expiry_s, stated, verified

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from proxy.edge.headers import Pair
    from proxy.policy import JwksSettings, JwtSettings


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose token is good: the fields that its claims make, and until when (Unix time) it is."""

    source: str
    algorithm: str
    fields: tuple[Pair, ...]
    expires_s: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """What was read for one `guard.jwt`: its own keys, and the authorities that its key set is trusted by."""

    keys: tuple[Key, ...]
    tls: ssl.SSLContext | None

    @classmethod
    def read(cls, jwt: JwtSettings, environ: Mapping[str, str]) -> Material:
        """Read them. May block. Raise BadKeyError."""
        return cls(read_keys(jwt, environ), _authorities(jwt))

    def check(
        self,
        jwt: JwtSettings,
        sets: dict[tuple[JwksSettings, tuple[str, ...]], Jwks],
        told: Callable[[str], None],
    ) -> Check:
        """Return the check that these make. Call it in a running loop.

        Its key set is one of `sets` if it is there, else it is put there and begins to be fetched.
        """
        if jwt.jwks is None:
            return Check(jwt, self.keys, None)
        about = (jwt.jwks, jwt.algorithms)
        jwks = sets.setdefault(about, Jwks(*about, self.tls, told))
        jwks.tls = self.tls
        jwks.warm()
        return Check(jwt, self.keys, jwks)


def _authorities(jwt: JwtSettings) -> ssl.SSLContext | None:
    """Return whom the server of the key set is trusted by: the policy's authorities or the system's."""
    if jwt.jwks is None or not jwt.jwks.url.lower().startswith("https:"):
        return None
    try:
        return upstream_tls(ca_file=jwt.jwks.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadKeyError(f"guard.jwt.jwks.ca_file {jwt.jwks.ca_file}: {error}") from None


class Check:
    """Checks the tokens of one route. `parameters` and `prefixes`: what carries a token, by the policy."""

    def __init__(self, settings: JwtSettings, keys: tuple[Key, ...], jwks: Jwks | None) -> None:
        self.settings = settings
        self.jwks = jwks
        self._keys = keys
        places = settings.sources
        self.parameters = frozenset(each.name for each in places if each.place == "query")
        self.prefixes = tuple(each.prefix for each in places if each.place == "subprotocol")

    async def admit(
        self, headers: Sequence[Pair], query: str, transport: asyncio.Transport | None
    ) -> Admitted:
        """Return what a request's token comes to. Raise RefusedError.

        It waits only for a key set; meanwhile nothing is read from the client.
        """
        found = find_token(self.settings.sources, headers, query, self.settings.max_bytes)
        try:
            return await self._verify(found, transport)
        except RefusedError as error:
            raise RefusedError(error.reason, source=found.place, algorithm=error.algorithm) from None

    async def _verify(self, found: Found, transport: asyncio.Transport | None) -> Admitted:
        settings = self.settings
        algorithm, kid = stated(found.token, settings)
        keys = fitting(self._keys, algorithm, kid)
        if not keys and self.jwks is not None:
            keys = await self._fetched(self.jwks, algorithm, kid, transport)
        if not keys:
            raise RefusedError(Reason.UNKNOWN_KEY, algorithm=algorithm)
        claims = verified(found.token, algorithm, keys, settings)
        fields = tuple(claim_fields(settings.claims_to_headers, claims))
        return Admitted(found.place, algorithm, fields, expiry_s(claims, settings))

    async def _fetched(
        self, jwks: Jwks, algorithm: str, kid: str | None, transport: asyncio.Transport | None
    ) -> list[Key]:
        if algorithm.startswith("HS"):
            return []  # a secret is never fetched
        keys = jwks.fitting(algorithm, kid)
        if not keys and jwks.may_refresh:
            with not_read(transport):
                await jwks.refresh()
            keys = jwks.fitting(algorithm, kid)
        if not keys and not jwks.usable:
            raise RefusedError(Reason.KEYS_UNAVAILABLE, algorithm=algorithm)
        return keys
