"""Verifying a token: RFC 7519 section 7.2, with the limits that RFC 8725 (best current practices) adds.

Nothing that a token says about its key is followed but its id (`kid`), and that only to choose among keys
that are there. A bad token costs one verification at most (as many as there are keys without an id, if it has
none): some 100 us of CPU, which is done where it is, on the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jwt

from proxy.guard.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.guard.keys import Key
    from proxy.policy.settings import JwtSettings

# What parsers raise for what a peer may write: nesting without end, numbers beyond all bounds.
_UNREADABLE: Final = (ValueError, TypeError, OverflowError, RecursionError)
_REASONS: Final[list[tuple[type[jwt.PyJWTError], Reason]]] = [
    (jwt.ExpiredSignatureError, Reason.EXPIRED),
    (jwt.ImmatureSignatureError, Reason.NOT_YET_VALID),
    (jwt.InvalidAudienceError, Reason.AUDIENCE),
    (jwt.InvalidIssuerError, Reason.ISSUER),
    (jwt.MissingRequiredClaimError, Reason.CLAIM_MISSING),
    (jwt.InvalidAlgorithmError, Reason.ALGORITHM),
    (jwt.InvalidSignatureError, Reason.SIGNATURE),
]


def stated(token: str, settings: JwtSettings) -> tuple[str, str | None]:
    """Return the algorithm and the key id that a token's header states. Raise RefusedError.

    Nothing of it is verified yet. The algorithm is one of the policy's. A header with `crit` is refused: RFC
    7515 section 4.1.11, "If any of the listed extension Header Parameters are not understood and supported by
    the recipient, then the JWS is invalid", and none is.
    """
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *_UNREADABLE):
        raise RefusedError(Reason.MALFORMED) from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in settings.algorithms:
        raise RefusedError(Reason.ALGORITHM)
    if "crit" in header or "b64" in header:
        raise RefusedError(Reason.MALFORMED, algorithm=algorithm)
    if not isinstance(kid, str | None):
        raise RefusedError(Reason.MALFORMED, algorithm=algorithm)
    return algorithm, kid


def verified(token: str, algorithm: str, keys: Sequence[Key], settings: JwtSettings) -> dict[str, Any]:
    """Return the claims of a token that one of the keys has signed. Raise RefusedError.

    `keys` are those that fit its header, at least one.
    """
    failed = RefusedError(Reason.UNKNOWN_KEY, algorithm=algorithm)
    for key in keys:
        try:
            return _claims(token, algorithm, key, settings)
        except RefusedError as error:
            failed = error
            if error.reason is not Reason.SIGNATURE:
                break
    raise failed


def _claims(token: str, algorithm: str, key: Key, settings: JwtSettings) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.material,
            algorithms=[algorithm],
            # Without an audience of ours: RFC 7519 section 4.1.3, a principal that "does not identify itself
            # with a value in the "aud" claim when this claim is present" must reject the token. PyJWT does.
            audience=list(settings.audience) or None,
            issuer=list(settings.issuer) or None,
            leeway=settings.leeway_s,
            options={"require": list(settings.required)},
        )
    except (jwt.PyJWTError, *_UNREADABLE) as error:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.MALFORMED)
        raise RefusedError(reason, algorithm=algorithm) from None
    return claims


def expiry_s(claims: dict[str, Any], settings: JwtSettings) -> float | None:
    """Return the Unix time from which a verified token is refused; None for one that does not expire."""
    exp = claims.get("exp")
    return None if exp is None else int(exp) + settings.leeway_s
