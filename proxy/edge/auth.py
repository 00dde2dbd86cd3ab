"""Who may come in: a request's token is found, its key is got, it is verified. See `proxy/guard/`.

What may fail for it or block (key files, authorities) is done in `load_materials`, before a policy is taken.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from proxy.edge.http import upstream_tls
from proxy.edge.jwks import Jwks, not_read
from proxy.guard import (
    BadKeyError,
    Found,
    Reason,
    RefusedError,
    alias,
    claim_fields,
    expiry_s,
    find_token,
    fitting,
    read_keys,
    stated,
    verified,
    without_spoofed,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from proxy.edge.headers import Pair
    from proxy.guard import Key
    from proxy.policy import JwtSettings, Policy


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """What was read for one `guard.jwt`: its own keys, and the authorities that its key set is trusted by."""

    keys: tuple[Key, ...]
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose token is good: the fields that its claims make, and until when (Unix time) it is."""

    source: str
    algorithm: str
    fields: tuple[Pair, ...]
    expires_s: float | None


def load_materials(policy: Policy, environ: Mapping[str, str]) -> dict[JwtSettings, Material]:
    """Read every key that a policy names. May block. Raise BadKeyError, whose text is one clear line."""
    materials: dict[JwtSettings, Material] = {}
    for route in (policy.default, *policy.routes):
        jwt = route.settings.guard.jwt
        if jwt is None or jwt in materials:
            continue
        try:
            materials[jwt] = Material(read_keys(jwt, environ), _authorities(jwt))
        except BadKeyError as error:
            prefix = "" if route is policy.default else f"route {route.pattern}: "
            raise BadKeyError(f"{prefix}{error}") from None
    return materials


def _authorities(jwt: JwtSettings) -> ssl.SSLContext | None:
    if jwt.jwks is None or jwt.jwks.ca_file is None:
        return None
    try:
        return upstream_tls(ca_file=jwt.jwks.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadKeyError(f"guard.jwt.jwks.ca_file {jwt.jwks.ca_file}: {error}") from None


@dataclass(frozen=True, slots=True)
class Checks:
    """How tokens are checked, by the pattern of the route; a route without a check lets everybody in.

    `spoofed`: names of fields that only the gate may send, on any route (see `alias`). `odd_upgrades` and
    `odd_requests`: whether paths with more than one meaning are refused, since routes differ in the
    tokens that they want.
    """

    by_pattern: Mapping[str, Check]
    spoofed: frozenset[bytes]
    odd_upgrades: bool
    odd_requests: bool

    @classmethod
    def of(
        cls,
        policy: Policy,
        materials: Mapping[JwtSettings, Material],
        before: Checks | None,
        told: Callable[[str], None],
    ) -> Self:
        """Make them. Call it in a running loop.

        A key set that `before` has fetched already is kept; one that is new begins to be fetched.
        """
        kept = [each.jwks for each in before.by_pattern.values()] if before is not None else []
        sets = {(each.settings, each.algorithms): each for each in kept if each is not None}
        made: dict[str, Check] = {}
        for route in (policy.default, *policy.routes):
            if (jwt := route.settings.guard.jwt) is None:
                continue
            jwks, material = None, materials[jwt]
            if jwt.jwks is not None:
                about = (jwt.jwks, jwt.algorithms)
                jwks = sets.setdefault(about, Jwks(*about, material.tls, told))
                jwks.tls = material.tls
                jwks.warm()
            made[route.pattern] = Check(jwt, material.keys, jwks)
        known = [check.settings for check in made.values()]
        names = {alias(name.encode()) for each in known for name, _ in each.claims_to_headers}
        differ = any(route.settings.guard.jwt != policy.default.settings.guard.jwt for route in policy.routes)
        return cls(made, frozenset(names), differ, differ and any(each.http for each in known))

    def without_spoofed(self, headers: Sequence[Pair]) -> Sequence[Pair]:
        """Return a request's fields without those that only the gate may send."""
        return without_spoofed(headers, self.spoofed) if self.spoofed else headers


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
