"""The section `guard.jwt`: what it comes to, what it must say, where its files are."""

# ruff: noqa: E501 - messages stand here as users see them

from __future__ import annotations

import pytest

from proxy.policy import JwksSettings, JwtSettings, KeySource, TokenSource, load
from proxy.policy.load import examine

LEAST = "sources: [{from: authorization}], algorithms: [ES256], jwks: {url: https://id.example/keys}"


def jwt(*changes: str) -> str:
    return "guard: {jwt: {" + ", ".join((LEAST, *changes)) + "}}"


def without(key: str, *changes: str) -> str:
    parts = {
        part.split(":")[0]: part
        for part in (
            "sources: [{from: authorization}]",
            "algorithms: [ES256]",
            "jwks: {url: https://id.example/keys}",
        )
    }
    del parts[key]
    return "guard: {jwt: {" + ", ".join((*parts.values(), *changes)) + "}}"


def test_nothing_is_checked_unless_a_policy_says_so():
    assert load("production").default.settings.guard.jwt is None


def test_the_least_that_can_be_said_has_safe_defaults(policy):
    assert policy(jwt()).default.settings.guard.jwt == JwtSettings(
        sources=(TokenSource("authorization"),),
        algorithms=("ES256",),
        keys=(),
        jwks=JwksSettings("https://id.example/keys", None, 300, 10, 3600, 5),
        audience=(),
        issuer=(),
        leeway_s=30,
        required=("exp",),
        max_bytes=8192,
        http=False,
        close_code=None,
        expiry_code=None,
        claims_to_headers=(),
    )


def test_everything_that_can_be_said_arrives(policy):
    text = """
guard:
  jwt:
    sources:
      - {from: subprotocol, prefix: jwt., encoding: base64url}
      - {from: subprotocol, prefix: bearer., encoding: plain}
      - {from: cookie, name: sid}
      - {from: query, name: t}
    algorithms: [HS256, RS256, HS256]
    keys:
      - {kind: secret, env: SHARED, encoding: base64, kid: a}
      - {kind: public, file: /etc/key.pem}
    audience: [us]
    issuer: [me, you]
    on_failure: close
    close_code: 4000
    close_at_expiry: true
    expiry_code: 4001
    claims_to_headers: {X-User-Id: sub}
"""
    found = policy(text).default.settings.guard.jwt
    assert found.sources == (
        TokenSource("subprotocol", prefix="jwt.", encoded=True),
        TokenSource("subprotocol", prefix="bearer."),
        TokenSource("cookie", "sid"),
        TokenSource("query", "t"),
    )
    assert found.algorithms == ("HS256", "RS256")
    assert found.keys == (
        KeySource(secret=True, env="SHARED", encoded=True, kid="a"),
        KeySource(secret=False, file="/etc/key.pem"),
    )
    assert (found.audience, found.issuer) == (("us",), ("me", "you"))
    assert (found.close_code, found.expiry_code) == (4000, 4001)
    assert found.claims_to_headers == (("X-User-Id", "sub"),)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "guard: {jwt: {}}",
            "guard.jwt.sources: found nothing, expected a list of at most 16, each a mapping",
        ),
        (
            without("algorithms"),
            "guard.jwt.algorithms: found nothing, expected a list of at most 16, each HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA",
        ),
        (
            without("sources", "sources: []"),
            "guard.jwt.sources: found a list of 0, expected a list of at least one",
        ),
        (
            without("algorithms", "algorithms: []"),
            "guard.jwt.algorithms: found a list of 0, expected a list of at least one",
        ),
        (
            without("algorithms", "algorithms: [none]"),
            'guard.jwt.algorithms[0]: found the text "none", expected HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA',
        ),
        (without("jwks"), "guard.jwt: found a mapping, expected keys or jwks, to check tokens by"),
        (
            without("algorithms", "algorithms: [HS256]"),
            "guard.jwt: found a mapping, expected a key of kind: secret, for HS256",
        ),
        (
            without("jwks", "keys: [{kind: secret, env: A}]"),
            "guard.jwt: found a mapping, expected jwks or a key of kind: public, for ES256",
        ),
        (
            jwt("keys: [{kind: secret, env: A}]"),
            "guard.jwt: found a mapping, expected HS256, HS384 or HS512 among algorithms, for the key of kind: secret",
        ),
        (
            without("algorithms", "algorithms: [HS256]", "keys: [{kind: secret, env: A}]"),
            "guard.jwt: found a mapping, expected an algorithm other than HS among algorithms, for jwks or the key of kind: public",
        ),
        (
            jwt("keys: [{kind: public, env: A}]"),
            "guard.jwt: found a mapping, expected a kid for each key of kind: public, beside jwks",
        ),
        (jwt("keys: [{kind: public}]"), "guard.jwt.keys[0]: found a mapping, expected either file or env"),
        (
            jwt("keys: [{kind: public, file: a, env: B}]"),
            "guard.jwt.keys[0]: found a mapping, expected either file or env",
        ),
        (
            jwt("keys: [{kind: public, file: a, encoding: base64}]"),
            "guard.jwt.keys[0]: found a mapping, expected encoding with kind: secret only; a public key is PEM",
        ),
        (
            jwt("keys: [{kind: secret, secret: abc}]"),
            "guard.jwt.keys[0].secret: found an unknown key, expected kind, file, env, encoding or kid",
        ),
        (
            without("sources", "sources: [{from: cookie}]"),
            "guard.jwt.sources[0]: found a mapping, expected from: cookie with a name alone",
        ),
        (
            without("sources", "sources: [{from: query, name: t, prefix: a}]"),
            "guard.jwt.sources[0]: found a mapping, expected from: query with a name alone",
        ),
        (
            without("sources", "sources: [{from: subprotocol, prefix: jwt.}]"),
            "guard.jwt.sources[0]: found a mapping, expected from: subprotocol with prefix and encoding",
        ),
        (
            without("sources", "sources: [{from: authorization, name: a}]"),
            "guard.jwt.sources[0]: found a mapping, expected from: authorization alone",
        ),
        (
            without("sources", "sources: [{from: header}]"),
            'guard.jwt.sources[0].from: found the text "header", expected authorization, subprotocol, cookie or query',
        ),
        (
            without("jwks", "jwks: {url: http://id.example/}"),
            'guard.jwt.jwks.url: found the text "http://id.example/", expected an https URL without user name (http for loopback addresses)',
        ),
        (
            without("jwks", "jwks: {url: 'https://me:pw@id.example/'}"),
            'guard.jwt.jwks.url: found the text "https://me:REDACTED@id.example/", expected an https URL without user name (http for loopback addresses)',
        ),
        (
            without("jwks", "jwks: {url: 'https://[::1'}"),
            'guard.jwt.jwks.url: found the text "https://[::1", expected an https URL without user name (http for loopback addresses)',
        ),
        (
            jwt("claims_to_headers: {X-A: 7}"),
            "guard.jwt.claims_to_headers: found a mapping, expected header names with the claim for each, such as X-User-Id: sub",
        ),
        (
            jwt("claims_to_headers: {'X A': sub}"),
            "guard.jwt.claims_to_headers: found a mapping, expected header names with the claim for each, such as X-User-Id: sub",
        ),
        (
            jwt("claims_to_headers: [X-A]"),
            "guard.jwt.claims_to_headers: found a list of 1, expected header names with the claim for each, such as X-User-Id: sub",
        ),
        (
            jwt("claims_to_headers: {Host: sub}"),
            "guard.jwt.claims_to_headers: found a mapping, expected header names that are free for claims, unlike Host",
        ),
        (
            jwt("claims_to_headers: {sec_websocket_key: sub}"),
            "guard.jwt.claims_to_headers: found a mapping, expected header names that are free for claims, unlike sec_websocket_key",
        ),
        (
            jwt("claims_to_headers: {X-A: sub, x_a: iss}"),
            "guard.jwt.claims_to_headers: found a mapping, expected each header once, x_a is there twice",
        ),
        (
            jwt("close_code: 1006"),
            "guard.jwt.close_code: found 1006, expected a whole number: 1000 to 1003, 1007 to 1014 or 3000 to 4999",
        ),
        (
            jwt("audience: us"),
            'guard.jwt.audience: found the text "us", expected a list of at most 64, each text',
        ),
        (
            "routes: [{path: /a, guard: {jwt: {}}}]",
            "routes[0].guard.jwt.sources: found nothing, expected a list of at most 16, each a mapping",
        ),
    ],
)
def test_what_does_not_fit_is_reported_with_its_place(errors, text, line):
    assert f"gate.yaml:1: {line}" in errors(text)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8/k", "http://[::1]/k", "http://localhost/k", "https://id.example:8443/k?a=1"]
)
def test_a_key_set_is_fetched_over_tls_or_from_this_machine(policy, url):
    assert policy(without("jwks", f"jwks: {{url: '{url}'}}")).default.settings.guard.jwt.jwks.url == url


def test_a_route_may_differ_or_have_none(policy):
    found = policy(
        f"{jwt()}\nroutes: [{{path: /a, guard: {{jwt: {{audience: [us]}}}}}}, {{path: /b, guard: {{jwt: null}}}}]"
    )
    assert [route.settings.guard.jwt and route.settings.guard.jwt.audience for route in found.routes] == [
        ("us",),
        None,
    ]
    assert found.default.settings.guard.jwt.audience == ()


def test_what_is_in_effect_loads_to_the_same(write, policy):
    found = policy(
        jwt("claims_to_headers: {X-A: sub}")
        + "\nroutes: [{path: /a, guard: {jwt: {claims_to_headers: {X-B: iss}, leeway_s: 1}}}, {path: /b, guard: {jwt: null}}]"
    )
    assert load(str(write(found.dump(), "again.yaml"))) == found


def test_files_are_relative_to_the_policy_that_names_them_and_count_as_part_of_it(write, tmp_path):
    key = write("one", "sub/key.pem")
    write("authority", "sub/ca.pem")
    write(
        without(
            "jwks",
            "keys: [{kind: public, file: key.pem, kid: a}]",
            "jwks: {url: https://id.example/k, ca_file: ca.pem}",
        )
        + "\nroutes: [{path: /a, guard: {jwt: {keys: [{kind: public, file: other.pem, kid: b}]}}}]",
        "sub/p.yaml",
    )
    file = str(write("extends: sub/p.yaml"))
    before = examine(file)
    assert before.policy is not None
    settings = before.policy.default.settings.guard.jwt
    assert (settings.keys[0].file, settings.jwks.ca_file) == (str(key), str(tmp_path / "sub/ca.pem"))
    assert before.policy.routes[0].settings.guard.jwt.keys[0].file == str(tmp_path / "sub/other.pem")
    assert examine(file).same(before)
    for name in ("sub/key.pem", "sub/ca.pem", "sub/other.pem"):
        write("two", name)
        assert not examine(file).same(before)
        before = examine(file)
