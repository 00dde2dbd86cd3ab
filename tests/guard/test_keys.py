"""What a key may be used for, and which ones cannot be used at all."""

from __future__ import annotations

import base64
import secrets

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.guard import BadKeyError
from proxy.guard.keys import fitting, key_set, read_keys
from tests.backends.issuer import CURVES, signing
from tests.guard.tokens import public, secret, settings

HMAC = ["HS256", "HS384", "HS512"]
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
EVERY = (*HMAC, *RSA, *CURVES, "EdDSA")


def read(source, value: bytes | str, *algorithms: str):
    text = value.decode() if isinstance(value, bytes) else value
    return read_keys(settings(*(algorithms or EVERY), keys=(source,)), {"KEY": text})[0]


def fault(source, value: bytes | str, *algorithms: str) -> str:
    with pytest.raises(BadKeyError) as caught:
        read(source, value, *algorithms)
    return str(caught.value)


def pem(key) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("kind", "fits"),
    [("RS256", RSA), ("ES256", ["ES256"]), ("ES384", ["ES384"]), ("ES512", ["ES512"]), ("EdDSA", ["EdDSA"])],
)
def test_a_public_key_fits_the_algorithms_of_its_own_kind_alone(kind, fits):
    assert read(public(), signing(kind).public).algorithms == set(fits)


def test_a_secret_fits_hmac_alone():
    assert read(secret(), "x" * 64).algorithms == set(HMAC)


def test_a_key_is_for_what_the_policy_lists_and_nothing_else():
    assert read(public(), signing("RS256").public, "PS384", "HS256").algorithms == {"PS384"}
    assert read(secret(), "x" * 64, "HS384", "RS256").algorithms == {"HS384"}


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_never_taken_for_a_secret(kind):
    text = signing(kind).public
    der = serialization.load_pem_public_key(text).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert "a secret that others know is none" in fault(secret(), text)
    for raw in (text, der):
        assert "a secret that others know is none" in fault(secret(encoded=True), base64.b64encode(raw))


@pytest.mark.parametrize("text", ["x" * 64, "not a key", '{"kty": "RSA"}'])
def test_what_is_no_public_key_is_not_taken_for_one(text):
    assert "not a public key in PEM" in fault(public(), text)


def test_a_private_key_is_not_wanted():
    private = signing("ES256").private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    told = fault(public(), private)
    assert "a private key; to check tokens the public one is enough" in told
    assert private.decode().splitlines()[1] not in told


@pytest.mark.parametrize(("name", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_has_at_least_the_size_of_the_hash(name, least):
    assert read(secret(), "x" * least, name).algorithms == {name}
    assert fault(secret(), "x" * (least - 1), name).endswith(
        f"{least - 1} bytes; {name} wants at least {least}"
    )


def test_an_rsa_key_has_at_least_2048_bits():
    weak = pem(rsa.generate_private_key(65537, 1024).public_key())
    assert "an RSA key of 1024 bits; at least 2048 are wanted" in fault(public(), weak)


def test_a_curve_that_no_algorithm_has_fits_nothing():
    odd = pem(ec.generate_private_key(ec.SECP256K1()).public_key())
    assert "fits none of the algorithms ES256, RS256" in fault(public(), odd, "ES256", "RS256")


def test_the_end_of_the_line_is_no_part_of_a_secret(tmp_path):
    file = tmp_path / "secret"
    for ending in (b"", b"\n", b"\r\n"):
        file.write_bytes(b"x" * 32 + ending)
        key = read_keys(settings("HS256", keys=(secret(env=None, file=str(file)),)), {})[0]
        assert key.material == b"x" * 32


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_a_secret_in_base64_is_in_either_alphabet_padded_or_not(encode, padded):
    raw = b"\xfb\xff" + secrets.token_bytes(62)
    text = encode(raw).decode() if padded else encode(raw).decode().rstrip("=")
    assert read(secret(encoded=True), f"{text}\n").material == raw


def test_what_is_not_base64_is_said_without_what_it_is():
    told = fault(secret(encoded=True), "s3cr3t!")
    assert told == "guard.jwt.keys[0]: env KEY: not base64"


def test_a_key_that_is_not_there_is_named(tmp_path):
    wanted = settings("HS256", keys=(secret(), secret(env=None, file=str(tmp_path / "nothing"))))
    with pytest.raises(BadKeyError, match=r"guard\.jwt\.keys\[0\]: env KEY: the variable is not set"):
        read_keys(wanted, {})
    with pytest.raises(
        BadKeyError, match=r"guard\.jwt\.keys\[1\]: file .*nothing: No such file or directory"
    ):
        read_keys(wanted, {"KEY": "x" * 32})
    with pytest.raises(BadKeyError, match="Is a directory"):
        read_keys(settings("HS256", keys=(secret(env=None, file=str(tmp_path)),)), {})


def test_a_key_does_not_show_itself():
    assert "xxxx" not in repr(read(secret(), "x" * 64))


# -- which one ----------------------------------------------------------------------------------------------


def test_a_key_is_chosen_by_its_id_and_the_algorithm_it_may_be_used_with():
    one, two = (read(public(kid=kid), signing("ES256").public) for kid in ("one", "two"))
    bare = read(public(), signing("ES256").public)
    assert fitting([one, two], "ES256", "two") == [two]
    assert fitting([one, two], "ES256", "three") == []
    assert fitting([one, two], "ES384", "one") == []
    assert fitting([one, two], "ES256", None) == [one, two]
    assert fitting([one, bare], "ES256", "three") == [bare]
    assert fitting([one, bare], "ES256", "one") == [one]


# -- key sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RSA, *CURVES, "EdDSA"])
def test_a_key_set_has_keys_of_every_kind(name):
    (key,) = key_set({"keys": [signing(name).jwk("k")]}, (name,))
    assert (key.kid, key.algorithms) == ("k", {name})


def test_a_key_that_states_its_algorithm_is_for_that_alone():
    entry = signing("RS256").jwk("k", alg="PS256")
    assert key_set({"keys": [entry]}, RSA)[0].algorithms == {"PS256"}
    assert key_set({"keys": [entry]}, ["RS256"]) == ()


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 64).decode(), "kid": "k", "alg": "HS256"},
        signing("RS256").jwk("k", use="enc"),
        signing("RS256").jwk("k", key_ops=["encrypt"]),
        signing("RS256").jwk("k", key_ops="verify"),
        signing("RS256").jwk("k", alg="RSA-OAEP"),
        signing("RS256").jwk("k", alg="none"),
        signing("RS256").jwk("k", alg=["RS256"]),
        signing("RS256").jwk(7),
        signing("RS256").jwk("k", n="AQAB"),
        signing("RS256").jwk("k", n=None),
        signing("ES256").jwk("k", crv="P-256K"),
        signing("ES256").jwk("k", x="AAAA"),
        {"kty": "quantum"},
        {},
        "text",
        None,
    ],
)
def test_what_cannot_be_used_in_a_key_set_is_ignored(entry):
    kept = signing("ES256").jwk("good")
    assert [key.kid for key in key_set({"keys": [entry, kept]}, EVERY)] == ["good"]


def test_the_private_part_of_a_key_in_a_key_set_is_not_looked_at():
    entry = signing("RS256").jwk("k") | {"d": "AQAB", "p": "AQAB"}
    assert not hasattr(key_set({"keys": [entry]}, RSA)[0].material, "private_numbers")


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys", 7])
def test_what_is_no_key_set_is_refused(document):
    with pytest.raises(BadKeyError, match="not a key set"):
        key_set(document, EVERY)


def test_of_two_keys_with_one_id_the_first_counts():
    first, second = signing("ES256").jwk("k"), signing("ES256", 1).jwk("k")
    (key,) = key_set({"keys": [first, second]}, EVERY)
    assert key.material == signing("ES256").private.public_key()
