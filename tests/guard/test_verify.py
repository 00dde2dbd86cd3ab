"""Good tokens of every algorithm, every way in which one is bad, and the known attacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest

from proxy.guard import Reason, RefusedError
from proxy.guard.keys import fitting, read_keys
from proxy.guard.verify import expiry_s, stated, verified
from proxy.policy import JwtSettings
from tests.backends.issuer import ALGORITHMS, bent, signing
from tests.guard.tokens import public, secret, settings

each_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


def keys_for(wanted: JwtSettings, *names: str, kid: str | None = None):
    """The keys that the issuer's tokens of these algorithms are checked by."""
    environ = {name: signing(name).public.decode() for name in names}
    sources = tuple((secret if name.startswith("HS") else public)(env=name, kid=kid) for name in names)
    return read_keys(settings(*wanted.algorithms, keys=sources), environ)


def check(token: str, wanted: JwtSettings, keys) -> dict:
    algorithm, kid = stated(token, wanted)
    found = fitting(keys, algorithm, kid)
    if not found:
        raise RefusedError(Reason.UNKNOWN_KEY)
    return verified(token, algorithm, found, wanted)


def reason(token: str, wanted: JwtSettings, keys) -> Reason:
    with pytest.raises(RefusedError) as caught:
        check(token, wanted, keys)
    assert token not in repr(caught.value)
    return caught.value.reason


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(header: object, secret_: bytes, claims: object = None) -> str:
    """A token that is signed with HMAC-SHA256, whatever its header says."""
    text = f"{part(header)}.{part({'sub': 'eve', 'exp': 9e9} if claims is None else claims)}"
    return f"{text}.{part(hmac.new(secret_, text.encode(), hashlib.sha256).digest())}"


# -- good and bad -------------------------------------------------------------------------------------------


@each_algorithm
def test_a_good_token_is_accepted(name):
    wanted = settings(name)
    assert check(signing(name).token(sub="ada"), wanted, keys_for(wanted, name))["sub"] == "ada"


@each_algorithm
def test_a_token_of_another_key_is_refused(name):
    wanted = settings(name)
    keys = keys_for(wanted, name)
    assert reason(bent(signing(name).token()), wanted, keys) is Reason.SIGNATURE
    assert reason(signing(name, 1).token(), wanted, keys) is Reason.SIGNATURE


@each_algorithm
def test_claims_that_were_changed_are_refused(name):
    wanted = settings(name)
    head, _, tail = signing(name).token().split(".")
    changed = f"{head}.{part({'sub': 'eve', 'exp': 9e9})}.{tail}"
    assert reason(changed, wanted, keys_for(wanted, name)) is Reason.SIGNATURE


@each_algorithm
def test_an_algorithm_that_the_policy_does_not_list_is_refused_though_there_is_a_key_for_it(name):
    other = "HS512" if name != "HS512" else "HS256"
    wanted = settings(other)
    assert reason(signing(name).token(), wanted, keys_for(wanted, other)) is Reason.ALGORITHM


@pytest.mark.parametrize(
    ("claims", "changes", "expected"),
    [
        ({"exp": 1}, {}, Reason.EXPIRED),
        ({"exp": None}, {}, Reason.CLAIM_MISSING),
        ({"exp": "soon"}, {}, Reason.MALFORMED),
        ({"exp": 1e999}, {}, Reason.MALFORMED),
        ({"exp": [1]}, {}, Reason.MALFORMED),
        ({"nbf": time.time() + 1000}, {}, Reason.NOT_YET_VALID),
        ({"iat": time.time() + 1000}, {}, Reason.NOT_YET_VALID),
        ({"iss": "eve"}, {"issuer": ("me", "you")}, Reason.ISSUER),
        ({"iss": ["me"]}, {"issuer": ("me",)}, Reason.ISSUER),
        ({}, {"issuer": ("me",)}, Reason.CLAIM_MISSING),
        ({"aud": "them"}, {"audience": ("us",)}, Reason.AUDIENCE),
        ({"aud": {"us": 1}}, {"audience": ("us",)}, Reason.AUDIENCE),
        ({}, {"audience": ("us",)}, Reason.CLAIM_MISSING),
        ({"aud": "them"}, {}, Reason.AUDIENCE),
        ({}, {"required": ("exp", "role")}, Reason.CLAIM_MISSING),
        ({"sub": 7}, {}, Reason.MALFORMED),
    ],
)
def test_claims_that_do_not_fit_are_refused_each_for_its_reason(claims, changes, expected):
    wanted = settings("HS256", **changes)
    keys = keys_for(wanted, "HS256")
    key = signing("HS256").private
    token = forged({"alg": "HS256"}, key, {"sub": "ada", "exp": time.time() + 600} | claims | _none(claims))
    assert reason(token, wanted, keys) is expected


def _none(claims: dict) -> dict:
    return {name: value for name, value in claims.items() if value is None}


@pytest.mark.parametrize(
    ("claims", "changes"),
    [
        ({"iss": "you"}, {"issuer": ("me", "you")}),
        ({"iss": "anybody"}, {}),
        ({"aud": "us"}, {"audience": ("us",)}),
        ({"aud": ["them", "us"]}, {"audience": ("we", "us")}),
        ({"exp": None}, {"required": ()}),
        ({"role": "x"}, {"required": ("role",)}),
        ({"exp": int(time.time()) - 5}, {"leeway_s": 3600}),
        ({"nbf": int(time.time()) + 30}, {"leeway_s": 3600}),
    ],
)
def test_claims_that_fit_are_accepted(claims, changes):
    wanted = settings("ES256", **changes)
    assert check(signing("ES256").token(**claims), wanted, keys_for(wanted, "ES256"))


def test_a_token_ends_with_its_leeway_and_one_without_exp_does_not():
    assert expiry_s({"exp": 1000.7}, settings(leeway_s=30)) == 1030
    assert expiry_s({}, settings()) is None


# -- attacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], {"HS256": 1}])
def test_a_token_that_says_it_needs_no_signature_is_refused(name):
    wanted = settings("HS256", "RS256")
    keys = keys_for(wanted, "HS256", "RS256")
    for signature in ("AA", part(b"\0" * 32)):
        token = f"{part({'alg': name})}.{part({'sub': 'eve', 'exp': 9e9})}.{signature}"
        assert reason(token, wanted, keys) is Reason.ALGORITHM


@pytest.mark.parametrize("name", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret_to_sign_with(name):
    """The classic: HS256 in the header, the public key's text for a secret (RFC 8725 section 2.1)."""
    wanted = settings(name, "HS256")
    keys = keys_for(wanted, name, "HS256")
    for text in (signing(name).public, signing(name).public.strip()):
        assert reason(forged({"alg": "HS256"}, text), wanted, keys) is Reason.SIGNATURE
        alone = keys_for(wanted, name)
        assert reason(forged({"alg": "HS256"}, text), wanted, alone) is Reason.UNKNOWN_KEY


def test_a_key_of_one_kind_does_not_verify_another_kinds_algorithm():
    wanted = settings(*ALGORITHMS)
    for name in ("RS256", "ES256", "ES384", "EdDSA", "HS512"):
        keys = keys_for(wanted, name)
        for other in ALGORITHMS:
            token = signing(other).token()
            if keys[0].algorithms >= {other}:
                continue
            assert reason(token, wanted, keys) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": signing("ES256", 1).jwk("k")},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
    ],
)
def test_a_key_that_a_token_brings_along_is_not_used(header):
    wanted = settings("ES256")
    token = signing("ES256", 1).token(header=header)
    assert reason(token, wanted, keys_for(wanted, "ES256")) is Reason.SIGNATURE


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "/etc/passwd", "\0", "x" * 4000])
def test_a_key_id_is_compared_and_nothing_else(kid):
    wanted = settings("ES256")
    keys = keys_for(wanted, "ES256", kid="k")
    assert reason(signing("ES256").token(kid=kid), wanted, keys) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("kid", [7, ["k"], {"k": 1}, True])
def test_a_key_id_that_is_no_text_is_malformed(kid):
    wanted = settings("HS256")
    token = forged({"alg": "HS256", "kid": kid}, signing("HS256").private)
    assert reason(token, wanted, keys_for(wanted, "HS256")) is Reason.MALFORMED


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "b64", None])
def test_critical_extensions_are_refused_since_none_is_understood(crit):
    wanted = settings("HS256")
    token = forged({"alg": "HS256", "crit": crit, "exp": 1}, signing("HS256").private)
    assert reason(token, wanted, keys_for(wanted, "HS256")) is Reason.MALFORMED


def test_an_unencoded_payload_is_refused():
    wanted = settings("HS256")
    token = forged({"alg": "HS256", "b64": False, "crit": ["b64"]}, signing("HS256").private)
    assert reason(token, wanted, keys_for(wanted, "HS256")) is Reason.MALFORMED


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        part(b"[" * 6000) + ".e30.AA",
        part(b'{"a":' * 1500) + ".e30.AA",
        part(b"9" * 6000) + ".e30.AA",
        part([]) + ".e30.AA",
        part(b"not json") + ".e30.AA",
        part(b"\xff\xfe") + ".e30.AA",
        part({"alg": "HS256"}) + ".!.AA",
    ],
)
def test_garbage_is_malformed_or_wrong_and_never_an_error_of_ours(token):
    wanted = settings("HS256")
    assert reason(token, wanted, keys_for(wanted, "HS256")) is Reason.MALFORMED


@pytest.mark.parametrize(
    "claims", [b"[" * 6000, b"[]", b"null", b"7", b"{", b"\xff", b'{"exp":' + b"9" * 5000 + b"}"]
)
def test_a_signed_payload_that_is_no_object_is_malformed(claims):
    wanted = settings("HS256")
    token = forged({"alg": "HS256"}, signing("HS256").private, claims)
    assert reason(token, wanted, keys_for(wanted, "HS256")) is Reason.MALFORMED


def test_an_encrypted_token_is_not_for_us():
    token = part({"alg": "RSA-OAEP", "enc": "A256GCM"}) + ".AAAA.AAAA"
    assert reason(token, settings("RS256"), keys_for(settings("RS256"), "RS256")) is Reason.ALGORITHM


def test_a_token_without_a_key_id_is_tried_with_each_key_and_one_with_an_id_with_one(monkeypatch):
    wanted = settings("ES256")
    environ = {f"K{n}": signing("ES256", n).public.decode() for n in range(3)}
    named = tuple(public(env=f"K{n}", kid=f"k{n}") for n in range(3))
    keys = read_keys(settings("ES256", keys=named), environ)
    tries = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *args, **told: tries.append(1) or decode(*args, **told))
    assert check(signing("ES256", 2).token(), wanted, keys)
    assert len(tries) == 3
    tries.clear()
    assert reason(signing("ES256", 9).token(kid="k1"), wanted, keys) is Reason.SIGNATURE
    assert len(tries) == 1
