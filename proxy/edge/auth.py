"""Which routes want a token, and what each of them checks it by.

What may fail for it or block (key files, authorities) is done in `load_materials`, before a policy is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from proxy.guard import BadKeyError, alias, without_spoofed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proxy.edge.check import Check, Material
    from proxy.edge.headers import Pair
    from proxy.policy import JwtSettings, Policy


def load_materials(policy: Policy, environ: Mapping[str, str]) -> dict[JwtSettings, Material]:
    """Read every key that a policy names. May block. Raise BadKeyError, whose text is one clear line."""
    materials: dict[JwtSettings, Material] = {}
    for route in (policy.default, *policy.routes):
        jwt = route.settings.guard.jwt
        if jwt is None or jwt in materials:
            continue
        from proxy.edge.check import Material  # noqa: PLC0415 - see there; before listening, or off the loop

        try:
            materials[jwt] = Material.read(jwt, environ)
        except BadKeyError as error:
            prefix = "" if route is policy.default else f"route {route.pattern}: "
            raise BadKeyError(f"{prefix}{error}") from None
    return materials


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
            made[route.pattern] = materials[jwt].check(jwt, sets, told)
        known = [check.settings for check in made.values()]
        names = {alias(name.encode()) for each in known for name, _ in each.claims_to_headers}
        differ = any(route.settings.guard.jwt != policy.default.settings.guard.jwt for route in policy.routes)
        return cls(made, frozenset(names), differ, differ and any(each.http for each in known))

    def without_spoofed(self, headers: Sequence[Pair]) -> Sequence[Pair]:
        """Return a request's fields without those that only the gate may send."""
        return without_spoofed(headers, self.spoofed) if self.spoofed else headers
