"""The keys of `guard.jwt`: where a token is looked for, what it is checked by, and what comes of it.

The section is absent unless a policy has it, so its defaults stand here. Secrets never do: a key is named by
its file or by its environment variable.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from proxy.policy.kinds import STRICT, FilePath, SentCloseCode

# RFC 7518 section 3.1 and RFC 8037 section 3.1. "none" is not among them, and never will be.
Algorithm: TypeAlias = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip
_FIELD_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"  # RFC 9110 section 5.6.2: token
# Fields that make a request what it is, or that say who sent it by other means.
_NOT_FOR_CLAIMS: Final = re.compile(
    r"(host|connection|upgrade|content-.*|transfer-encoding|te|trailer|keep-alive|proxy-.*|expect|origin|cookie"
    r"|authorization|sec-.*|x-forwarded-.*|forwarded|traceparent|tracestate)"
)

CookieName: TypeAlias = Annotated[str, Field(pattern=r"^[^\s=;,\"]{1,128}$", description="a name")]
Prefix: TypeAlias = Annotated[
    str, Field(pattern=f"^{_FIELD_NAME}$", description="the beginning of a subprotocol name, such as jwt.")
]
Variable: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$", description="the name of an environment variable")
]
KeyId: TypeAlias = Annotated[str, Field(min_length=1, max_length=256, description="a key's id")]
Said: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024, description="text")]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_URL) from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
    plain = re.fullmatch(r"[\x21-\x7e]{1,2048}", url) is not None
    if not (secure and plain and parts.hostname) or parts.username is not None or parts.fragment:
        raise ValueError(_URL)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_URL = "an https URL without user name (http for loopback addresses)"
KeySetUrl: TypeAlias = Annotated[str, AfterValidator(_checked_url), Field(description=_URL)]


def _not_empty(items: list[Any]) -> list[Any]:
    if not items:
        raise ValueError("a list of at least one")
    return items


def _checked_headers(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(_HEADERS)  # noqa: TRY004 - pydantic reports ValueError
    seen: set[str] = set()
    for name, claim in value.items():
        alias = str(name).lower().replace("_", "-")
        if not re.fullmatch(_FIELD_NAME, str(name)) or not isinstance(claim, str) or not claim:
            raise ValueError(_HEADERS)
        if _NOT_FOR_CLAIMS.fullmatch(alias):
            raise ValueError(f"header names that are free for claims, unlike {name}")
        if alias in seen:
            raise ValueError(f"each header once, {name} is there twice")
        seen.add(alias)
    return value


_HEADERS = "header names with the claim for each, such as X-User-Id: sub"


class _Keys(BaseModel):
    model_config = STRICT


class TokenSource(_Keys):
    """One place where a client may put its token."""

    from_: Literal["authorization", "subprotocol", "cookie", "query"] = Field(alias="from")
    """`authorization`: `Authorization: Bearer TOKEN`. `subprotocol`: an offered subprotocol that begins with
    `prefix`. `cookie`, `query`: the cookie or query parameter called `name`.
    """

    name: CookieName | None = None
    """`cookie` and `query` only, and required there."""

    prefix: Prefix | None = None
    """`subprotocol` only, and required there."""

    encoding: Literal["base64url", "plain"] | None = None
    """`subprotocol` only, and required there: whether the token behind the prefix is encoded once more,
    unpadded, or stands there as it is.
    """

    @model_validator(mode="after")
    def _fits(self) -> Self:
        named, worded = self.name is not None, self.prefix is not None and self.encoding is not None
        if self.from_ in {"cookie", "query"} and (not named or self.prefix or self.encoding):
            raise ValueError(f"from: {self.from_} with a name alone")
        if self.from_ == "subprotocol" and (named or not worded):
            raise ValueError("from: subprotocol with prefix and encoding")
        if self.from_ == "authorization" and (named or self.prefix or self.encoding):
            raise ValueError("from: authorization alone")
        return self


class TokenKey(_Keys):
    """A key that tokens are checked by: a shared secret, or a public key in PEM."""

    kind: Literal["secret", "public"]
    """`secret`: shared with the issuer, for HS algorithms only; 32 bytes at least for HS256, 48 for HS384, 64
    for HS512. `public`: a public key in PEM, for the algorithms of its kind; RSA with 2048 bits at least.
    """

    file: FilePath | None = None
    """The file that has it, relative to the policy file. Either this or `env`."""

    env: Variable | None = None
    """The environment variable that has it."""

    encoding: Literal["text", "base64"] | None = None
    """`secret` only. `text` (or `null`): the bytes as they are, without the line's end; `base64`: either
    alphabet, padded or not.
    """

    kid: KeyId | None = None
    """The `kid` of the tokens that it is for. `null`: those with a `kid` that no other key has, and those
    without.
    """

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("either file or env")
        if self.kind == "public" and self.encoding is not None:
            raise ValueError("encoding with kind: secret only; a public key is PEM")
        return self


class KeySet(_Keys):
    """A JSON Web Key Set (RFC 7517) that is fetched, and how long what was fetched is good for."""

    url: KeySetUrl
    """Where it is. Redirects are not followed, 256 KiB are read at most."""

    ca_file: FilePath | None = None
    """PEM file of the authorities to trust for it, relative to the policy file. `null`: the system's."""

    cache_s: Annotated[float, Field(ge=1, le=604_800)] = 300
    """How long it is good for. It is fetched anew before that, in the background."""

    min_refresh_s: Annotated[float, Field(ge=1, le=86_400)] = 10
    """Shortest time between two fetches. An unknown `kid` causes one no earlier."""

    stale_s: Annotated[float, Field(ge=0, le=604_800)] = 3600
    """While it cannot be fetched: how long beyond `cache_s` the keys that are there are good. Without keys
    every token gets 503 (Close 1013).
    """

    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5
    """Longest time for one fetch."""


class Jwt(_Keys):
    """How tokens are checked at the door."""

    sources: Annotated[list[TokenSource], Field(max_length=16), AfterValidator(_not_empty)]
    """Where a token may be, in order: the first place that has one counts."""

    algorithms: Annotated[list[Algorithm], Field(max_length=16), AfterValidator(_not_empty)]
    """What tokens may be signed with. Each needs a key that it fits. `none` is never accepted."""

    keys: Annotated[list[TokenKey], Field(max_length=16)] = []
    """Keys of your own. One of `keys` and `jwks` is required; with both, each `public` key needs a `kid`.
    Read at the start and on each reload.
    """

    jwks: KeySet | None = None
    """A JSON Web Key Set that is fetched. Keys for encryption, secrets and what is too weak in it are
    ignored.
    """

    audience: Annotated[list[Said], Field(max_length=64)] = []
    """Whom a token must be for (`aud`), one of these. `[]`: tokens that name anybody are refused (RFC 7519
    section 4.1.3).
    """

    issuer: Annotated[list[Said], Field(max_length=64)] = []
    """Who must have issued it (`iss`), one of these. `[]`: anybody who has the key."""

    leeway_s: Annotated[float, Field(ge=0, le=3600)] = 30
    """By how much clocks may differ, for `exp`, `nbf` and `iat`."""

    required: Annotated[list[Said], Field(max_length=64)] = ["exp"]
    """Claims without which a token is refused."""

    max_bytes: Annotated[int, Field(ge=256, le=65_536)] = 8192
    """Longest token. A longer one is refused before it is decoded."""

    http: bool = False
    """Whether plain HTTP requests need a token, too. `false`: WebSocket upgrades alone do."""

    on_failure: Literal["status", "close"] = "status"
    """`status`: 401 with `WWW-Authenticate`. `close`: 101, a text message `{"type":"error","code":...}` and a
    Close, for clients that cannot see statuses. Plain HTTP gets 401 in any case.
    """

    close_code: SentCloseCode = 4401
    """The code of that Close."""

    close_at_expiry: bool = False
    """Whether an open session ends when its token expires (`exp`, with the leeway)."""

    expiry_code: SentCloseCode = 4401
    """The code of the Close that the client gets then."""

    claims_to_headers: Annotated[dict[str, Any], BeforeValidator(_checked_headers)] = {}
    """Header names, each with the claim that it gets: `{X-User-Id: sub}`. Fields by these names that a client
    sends are removed, on every route, also with `_` for `-`.
    """

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """See that each algorithm has a key that it may be used with, and each key an algorithm."""
        shared = [name for name in self.algorithms if name.startswith("HS")]
        signed = [name for name in self.algorithms if not name.startswith("HS")]
        kinds = {key.kind for key in self.keys}
        if not self.keys and self.jwks is None:
            raise ValueError("keys or jwks, to check tokens by")
        if shared and "secret" not in kinds:
            raise ValueError(f"a key of kind: secret, for {shared[0]}")
        if signed and "public" not in kinds and self.jwks is None:
            raise ValueError(f"jwks or a key of kind: public, for {signed[0]}")
        if not shared and "secret" in kinds:
            raise ValueError("HS256, HS384 or HS512 among algorithms, for the key of kind: secret")
        if not signed and ("public" in kinds or self.jwks is not None):
            raise ValueError(
                "an algorithm other than HS among algorithms, for jwks or the key of kind: public"
            )
        if self.jwks is not None and any(key.kind == "public" and key.kid is None for key in self.keys):
            raise ValueError("a kid for each key of kind: public, beside jwks")
        return self


__all__ = ["Algorithm", "Jwt", "KeySet", "TokenKey", "TokenSource"]
