"""Settings for tests of tokens: a policy's `guard.jwt` as the gate has it, with only what a test names."""

from __future__ import annotations

from proxy.policy import JwtSettings, KeySource, TokenSource

HEADER = TokenSource("authorization")


def settings(*algorithms: str, **changes: object) -> JwtSettings:
    told = {
        "sources": (HEADER,),
        "algorithms": algorithms or ("ES256",),
        "keys": (),
        "jwks": None,
        "audience": (),
        "issuer": (),
        "leeway_s": 0,
        "required": ("exp",),
        "max_bytes": 8192,
        "http": False,
        "close_code": None,
        "expiry_code": None,
        "claims_to_headers": (),
    }
    return JwtSettings(**(told | changes))


def secret(**changes: object) -> KeySource:
    return KeySource(secret=True, **({"env": "KEY"} | changes))


def public(**changes: object) -> KeySource:
    return KeySource(secret=False, **({"env": "KEY"} | changes))
