"""Why a token was not accepted, and what is answered: to the client little, to the operator the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REALM: Final = "readygate"
_TRY_AGAIN_LATER: Final = 1013


class Reason(StrEnum):
    """Why (`readygate.auth.outcome` in spans, `reason` of the metric). A bounded set; `ACCEPTED` is none."""

    ACCEPTED = "accepted"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIM_MISSING = "claim_missing"
    CLAIM_TOO_LONG = "claim_too_long"
    KEYS_UNAVAILABLE = "keys_unavailable"


class RefusedError(Exception):
    """A request without a good token. `source` and `algorithm` as far as they are known; never the token."""

    def __init__(self, reason: Reason, *, source: str = "", algorithm: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.source = source
        self.algorithm = algorithm


class BadKeyError(Exception):
    """A key that cannot be used. The text says why, without anything of the key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, safe to show. `challenge`: the `WWW-Authenticate` field, "" for none.

    `code` is for clients that cannot see statuses: it goes into a message before the Close with `close_code`.
    `passes`: the same request may succeed later.
    """

    status: int
    title: str
    detail: str
    code: str
    challenge: str = ""
    passes: bool = False

    def close_code(self, configured: int) -> int:
        """Return the Close code: the policy's, unless it is the gate that cannot do its work."""
        return _TRY_AGAIN_LATER if self.passes else configured

    @property
    def message(self) -> bytes:
        """The text message for a client that cannot see statuses."""
        told = {"type": "error", "code": self.code, "message": self.detail}
        return json.dumps(told, separators=(",", ":")).encode()


# RFC 6750 section 3.1: without any authentication information "the resource server SHOULD NOT include an
# error code or other error information"; "invalid_token: The access token provided is expired, revoked,
# malformed, or invalid for other reasons". Which of these it is would help who guesses, so all but one look
# alike: that a token has expired is learned only by who has a genuine one, and its owner has to know.
_MISSING: Final = Answer(
    401, "Unauthorized", "a token is required", "unauthorized", f'Bearer realm="{REALM}"'
)
_INVALID: Final = Answer(
    401,
    "Unauthorized",
    "the token is not valid",
    "invalid_token",
    f'Bearer realm="{REALM}", error="invalid_token", error_description="The token is not valid"',
)
_EXPIRED: Final = Answer(
    401,
    "Unauthorized",
    "the token has expired",
    "token_expired",
    f'Bearer realm="{REALM}", error="invalid_token", error_description="The token has expired"',
)
# The token may be good: to call it bad would log its owner out.
_UNAVAILABLE: Final = Answer(
    503, "Service unavailable", "tokens cannot be checked now", "unavailable", passes=True
)
_ANSWERS: Final = {
    Reason.MISSING: _MISSING,
    Reason.EXPIRED: _EXPIRED,
    Reason.KEYS_UNAVAILABLE: _UNAVAILABLE,
}


def answer_to(reason: Reason) -> Answer:
    """Return the answer for a reason."""
    return _ANSWERS.get(reason, _INVALID)
