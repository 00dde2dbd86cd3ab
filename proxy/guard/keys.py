"""The keys that tokens are checked by, each bound to the algorithms that it may be used with.

A token's header says which algorithm it wants, and whoever forges one says what suits him. So what a key is
decides (RFC 8725 section 3.1): a secret is for HMAC only, an RSA key for RS and PS, an elliptic curve's for
its own curve. A public key taken for a secret, which everybody knows, is refused when it is read.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from proxy.guard.refusal import BadKeyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from proxy.policy.settings import JwtSettings, KeySource

default_backend()  # else the first key that is fetched would have it imported, on the loop

# RFC 7518 section 3.2: "A key of the same size as the hash output (for instance, 256 bits for "HS256") or
# larger MUST be used".
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
# Section 3.3: "A key of size 2048 bits or larger MUST be used".
_RSA_BITS: Final = 2048
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_MOST_FILE_BYTES: Final = 1 << 16
_MOST_KEYS: Final = 256


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A key: its id, if it has one, and the algorithms that it may be used with here."""

    kid: str | None
    algorithms: frozenset[str]
    material: Any  # bytes of a secret, or a public key of `cryptography`


def fitting(keys: Iterable[Key], algorithm: str, kid: str | None) -> list[Key]:
    """Return the keys that may have signed a token with this header.

    One with the token's key id if there is any, else those without an id of their own. For a token without
    an id every key that fits its algorithm.
    """
    able = [key for key in keys if algorithm in key.algorithms]
    if kid is None:
        return able
    named = [key for key in able if key.kid == kid]
    return named or [key for key in able if key.kid is None]


def read_keys(settings: JwtSettings, environ: Mapping[str, str]) -> tuple[Key, ...]:
    """Read the keys that the policy names. May block. Raise BadKeyError, whose text names the key."""
    keys = []
    for number, source in enumerate(settings.keys):
        where = f"file {source.file}" if source.file is not None else f"env {source.env}"
        try:
            keys.append(_key(source, _raw(source, environ), settings.algorithms))
        except BadKeyError as error:
            raise BadKeyError(f"guard.jwt.keys[{number}]: {where}: {error}") from None
    return tuple(keys)


def _raw(source: KeySource, environ: Mapping[str, str]) -> bytes:
    if source.file is None:
        value = environ.get(source.env or "", "")
        if not value:
            raise BadKeyError("the variable is not set")
        return value.encode("utf-8", "surrogateescape")
    try:
        with Path(source.file).open("rb") as stream:
            raw = stream.read(_MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadKeyError(getattr(error, "strerror", None) or "not a path") from None
    if len(raw) > _MOST_FILE_BYTES:
        raise BadKeyError(f"more than {_MOST_FILE_BYTES} bytes")
    return raw


def _key(source: KeySource, raw: bytes, allowed: Sequence[str]) -> Key:
    if source.secret:
        return Key(source.kid, *_secret(raw, allowed, encoded=source.encoded))
    return Key(source.kid, *_public(raw, allowed))


def _secret(raw: bytes, allowed: Sequence[str], *, encoded: bool) -> tuple[frozenset[str], bytes]:
    secret = raw.removesuffix(b"\n").removesuffix(b"\r")  # an editor's, or echo's
    if b"-----BEGIN" in secret:
        raise BadKeyError("a PEM file; a secret that others know is none")
    if encoded:
        secret = _unbase64(secret)
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)  # knows other forms of public keys
    except jwt.InvalidKeyError:
        raise BadKeyError("empty, or a public key; a secret that others know is none") from None
    names = frozenset(allowed) & _SECRET_BYTES.keys()
    for name in sorted(names):
        if len(secret) < _SECRET_BYTES[name]:
            raise BadKeyError(f"{len(secret)} bytes; {name} wants at least {_SECRET_BYTES[name]}")
    return frozenset(names), secret


def _unbase64(text: bytes) -> bytes:
    bare = re.sub(rb"\s", b"", text).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadKeyError("not base64") from None


def _public(pem: bytes, allowed: Collection[str]) -> tuple[frozenset[str], object]:
    if b"PRIVATE KEY-----" in pem:
        raise BadKeyError("a private key; to check tokens the public one is enough, and safer")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKeyError("not a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    fits = _algorithms_of(key) & frozenset(allowed)
    if not fits:
        raise BadKeyError(f"a key that fits none of the algorithms {', '.join(allowed)}")
    return fits, key


def _algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that a public key is for. Raise BadKeyError for one that is too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            raise BadKeyError(f"an RSA key of {key.key_size} bits; at least {_RSA_BITS} are wanted")
        return frozenset(_RSA)
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVES.get(key.curve.name)
        return frozenset({name}) if name else frozenset()
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def key_set(document: object, allowed: Collection[str]) -> tuple[Key, ...]:
    """Return the usable keys of a JSON Web Key Set. Raise BadKeyError for what is none.

    RFC 7517 section 5: "Implementations SHOULD ignore JWKs within a JWK Set that use "kty" (key type) values
    that are not understood by them, that are missing required members, or for which values are out of the
    supported ranges". So are those for encryption, and secrets: nothing that is fetched is one. Of several
    with one id the first counts.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise BadKeyError("not a key set")
    keys: dict[tuple[str | None, frozenset[str]], Key] = {}
    for entry in listed[:_MOST_KEYS]:
        key = _from_jwk(entry, frozenset(allowed)) if isinstance(entry, dict) else None
        if key is not None:
            keys.setdefault((key.kid, key.algorithms), key)
    return tuple(keys.values())


def _from_jwk(entry: dict[str, Any], allowed: frozenset[str]) -> Key | None:
    operations = entry.get("key_ops")
    if entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    kid, stated = entry.get("kid"), entry.get("alg")
    public = {name: value for name, value in entry.items() if name in {"kty", "crv", "n", "e", "x", "y"}}
    try:
        material = jwt.PyJWK(public, "EdDSA" if entry.get("kty") == "OKP" else None).key
        fits = _algorithms_of(material) & allowed
    except (jwt.PyJWTError, BadKeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return None
    if stated is not None:
        fits &= {stated} if isinstance(stated, str) else frozenset()
    if not fits or not isinstance(kid, str | None):
        return None
    return Key(kid, frozenset(fits), material)
