"""Every way in which a policy can be wrong, with the exact words."""

# ruff: noqa: E501 - messages stand here as users see them

from __future__ import annotations

import pytest

from proxy.policy import Problem

KNOWN = "classic, development, production, staging, testing or a policy file"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # unknown keys
        (
            "handshake: {dedline_s: 5}",
            "handshake.dedline_s: found an unknown key, expected accept, deadline_s, retry_after_s, eager, client,"
            " upstream or redial (did you mean deadline_s?)",
        ),
        (
            "session: {zzz: 5}",
            "session.zzz: found an unknown key, expected upstream_lost_code, max_s or jitter",
        ),
        (
            "handshake: {client: {validation: {budget: 5}}}",
            "handshake.client.validation.budget: found an unknown key, expected evidence, budget_ms or on_expiry"
            " (did you mean budget_ms?)",
        ),
        (
            "<<: {departure: {max_s: 1}}",
            "<<: found an unknown key, expected extends, handshake, upstream, http, guard, session, departure, keepalive, limits,"
            " drain or routes",
        ),
        (
            'session: {"a\\nb\\u202e": 5}',
            "session.a\\nb\\u202e: found an unknown key, expected upstream_lost_code, max_s or jitter",
        ),
        # wrong types
        (
            'handshake: {client: {validation: {budget_ms: "75"}}}',
            'handshake.client.validation.budget_ms: found the text "75", expected a number from 0 to 600000',
        ),
        (
            "handshake: {client: {validation: {budget_ms: true}}}",
            "handshake.client.validation.budget_ms: found true, expected a number from 0 to 600000",
        ),
        ("http: {connections: 2.5}", "http.connections: found 2.5, expected a whole number from 1 to 100000"),
        (
            "http: {connections: true}",
            "http.connections: found true, expected a whole number from 1 to 100000",
        ),
        (
            "http: {connections: [1]}",
            "http.connections: found a list of 1, expected a whole number from 1 to 100000",
        ),
        ("http: {connections:}", "http.connections: found nothing, expected a whole number from 1 to 100000"),
        (
            "http: {connections: 010}",
            'http.connections: found the text "010", expected a whole number from 1 to 100000',
        ),
        (
            "http: {keepalive_s: 1:30}",
            'http.keepalive_s: found the text "1:30", expected a number from 0 to 86400',
        ),
        (
            "http: {keepalive_s: .nan}",
            'http.keepalive_s: found the text ".nan", expected a number from 0 to 86400',
        ),
        (
            "http: {keepalive_s: 2026-01-01}",
            'http.keepalive_s: found the text "2026-01-01", expected a number from 0 to 86400',
        ),
        (
            "upstream: {tls: {verify: yes}}",
            'upstream.tls.verify: found the text "yes", expected true or false',
        ),
        ("upstream: {tls: {verify: 1}}", "upstream.tls.verify: found 1, expected true or false"),
        ("http: 5", "http: found 5, expected a mapping"),
        ("http:", "http: found nothing, expected a mapping"),
        ("handshake: {client: [1, 2]}", "handshake.client: found a list of 2, expected a mapping"),
        (
            "handshake: {client: {validation: 75}}",
            "handshake.client.validation: found 75, expected a mapping",
        ),
        (
            "handshake: {client: {announcement: 5}}",
            "handshake.client.announcement: found 5, expected a mapping or null",
        ),
        (
            "handshake: {redial: {statuses: 503}}",
            "handshake.redial.statuses: found 503, expected a list of at most 64, each a whole number from 400 to 599",
        ),
        (
            "handshake: {redial: {statuses: [503, x]}}",
            'handshake.redial.statuses[1]: found the text "x", expected a whole number from 400 to 599',
        ),
        (
            "handshake: {upstream: {announcement: {evidence: message, json: {path: a, equals: [1]}}}}",
            "handshake.upstream.announcement.json.equals: found a list of 1,"
            " expected text, a number, true, false or null",
        ),
        # out of range
        ("departure: {max_s: -1}", "departure.max_s: found -1, expected a number from 0 to 3600"),
        ("departure: {max_s: 1.0e+300}", "departure.max_s: found 1e+300, expected a number from 0 to 3600"),
        (
            "handshake: {redial: {tries: 0}}",
            "handshake.redial.tries: found 0, expected a whole number from 1 to 1000",
        ),
        (
            "handshake: {redial: {jitter: 1.5}}",
            "handshake.redial.jitter: found 1.5, expected a number from 0 to 1",
        ),
        (
            "handshake: {accept: eagre}",
            'handshake.accept: found the text "eagre", expected mirrored or eager',
        ),
        (
            "handshake: {client: {validation: {evidence: acked}}}",
            'handshake.client.validation.evidence: found the text "acked", expected pong, frame or fixed',
        ),
        (
            "session: {upstream_lost_code: 1006}",
            "session.upstream_lost_code: found 1006, expected a whole number: 1000 to 1003, 1007 to 1014 or 3000 to 4999",
        ),
        (
            "handshake: {eager: {subprotocols: ['a b']}}",
            'handshake.eager.subprotocols[0]: found the text "a b", expected a subprotocol name (RFC 6455 11.3.4)',
        ),
        (
            "handshake: {upstream: {announcement: {evidence: message, json: {path: a..b, equals: 1}}}}",
            'handshake.upstream.announcement.json.path: found the text "a..b", expected names joined by dots',
        ),
        (
            "upstream: {tls: {ca_file: ''}}",
            'upstream.tls.ca_file: found the text "", expected the path of a file or null',
        ),
        # missing
        (
            "handshake: {upstream: {announcement: {budget_ms: 5}}}",
            "handshake.upstream.announcement.evidence: found nothing, expected message or fixed",
        ),
        (
            "handshake: {client: {stabilization: {evidence: fixed}}}",
            "handshake.client.stabilization.budget_ms: found nothing, expected a number from 0 to 600000",
        ),
        ("routes: [{rewrite: /a}]", "routes[0].path: found nothing, expected a path pattern"),
        # keys of the other kind of a stage, written on purpose
        (
            "handshake: {client: {stabilization: {evidence: fixed, budget_ms: 5, min_ms: 1}}}",
            "handshake.client.stabilization.min_ms: found a key that this evidence does not have,"
            " expected evidence or budget_ms",
        ),
        (
            "{extends: classic, handshake: {client: {stabilization: {max_ms: 1}}}}",
            "handshake.client.stabilization.max_ms: found a key that this evidence does not have,"
            " expected evidence or budget_ms",
        ),
        # inconsistent
        (
            "handshake: {client: {stabilization: {min_ms: 30}}}",
            "handshake.client.stabilization.min_ms: found 30, expected at most 25"
            " (handshake.client.stabilization.max_ms is 25)",
        ),
        (
            "{extends: 3ms.yaml, handshake: {upstream: {stabilization: {max_ms: 1}}}}",
            "handshake.upstream.stabilization.max_ms: found 1, expected at least 3"
            " (handshake.upstream.stabilization.min_ms is 3)",
        ),
        (
            "handshake: {client: {stabilization: {min_ms: 9, max_ms: 8}}}",
            "handshake.client.stabilization.min_ms: found 9, expected at most 8 (handshake.client.stabilization.max_ms is 8)",
        ),
        (
            "handshake: {redial: {base_ms: 3000}}",
            "handshake.redial.base_ms: found 3000, expected at most 1000 (handshake.redial.max_ms is 1000)",
        ),
        (
            "handshake: {upstream: {validation: {budget_ms: 20000}}}",
            "handshake.upstream.validation.budget_ms: found 20000, expected at most 10000"
            " (handshake.deadline_s is 10)",
        ),
        (
            "handshake: {deadline_s: 0.06}",
            "handshake.deadline_s: found 0.06, expected at least 0.075 (handshake.client.validation.budget_ms is 75)",
        ),
        (
            "handshake: {deadline_s: 1, client: {announcement: {evidence: message}}}",
            "handshake.client.announcement.budget_ms: found 2000, expected at most 1000 (handshake.deadline_s is 1)",
        ),
        (
            "departure: {max_s: 0.01}",
            "departure.max_s: found 0.01, expected at least 0.25 (departure.quiet_ms is 250)",
        ),
        # routes
        ("routes: 5", "routes: found 5, expected a list of at most 1000, each a mapping"),
        ("routes: [/ws]", 'routes[0]: found the text "/ws", expected a mapping'),
        (
            "routes: [{path: ws}]",
            'routes[0].path: found the text "ws", expected a path that starts with /, such as /ws/**',
        ),
        (
            "routes: [{path: /a/*, rewrite: /b/**}]",
            'routes[0].rewrite: found the text "/b/**",'
            " expected a rewrite without **, as the path /a/* does not have exactly one",
        ),
        (
            "routes: [{path: /a/*, rewrite: /b/*}]",
            'routes[0].rewrite: found the text "/b/*", expected a path without wildcards, or with ** as its last segment',
        ),
        (
            "routes: [{path: /a}, {path: /a}]",
            'routes[1].path: found the text "/a", expected a path that routes[0] does not have yet',
        ),
        (
            "routes: [{path: /a, http: {}}]",
            "routes[0].http: found an unknown key, expected path, rewrite, handshake, upstream, guard, session, departure,"
            " keepalive or limits",
        ),
        (
            "routes: [{path: /a, handshake: {acept: eager}}]",
            "routes[0].handshake.acept: found an unknown key, expected accept, deadline_s, retry_after_s, eager,"
            " client, upstream or redial (did you mean accept?)",
        ),
        (
            "routes: [{path: /a, upstream: {tls: {verify: 1}, connect_timeout_s: 1}}]",
            "routes[0].upstream.tls: found a key that a route cannot override,"
            " expected connect_timeout_s alone (upstream.tls at the top is for all routes)",
        ),
        ("routes: [{path: /a, session: }]", "routes[0].session: found nothing, expected a mapping"),
        (
            "routes: [{path: /a, handshake: {client: {stabilization: {evidence: fixed}}}}]",
            "routes[0].handshake.client.stabilization.budget_ms: found nothing, expected a number from 0 to 600000",
        ),
        (
            "routes: [{path: /a, handshake: {deadline_s: 0.06}}]",
            "routes[0].handshake.deadline_s: found 0.06, expected at least 0.075"
            " (handshake.client.validation.budget_ms is 75)",
        ),
        # extends
        (
            "extends: prodution",
            f'extends: found no preset "prodution", expected {KNOWN} (did you mean production?)',
        ),
        ("extends: ./none.yaml", f"extends: found no such file: ./none.yaml, expected {KNOWN}"),
        ("extends: [production]", f"extends: found a list of 1, expected {KNOWN}"),
        (
            "extends: gate.yaml",
            "extends: found a cycle (gate.yaml -> gate.yaml), expected a policy that does not extend this one",
        ),
        # YAML
        (
            "departure: {max_s: 1, max_s: 2}",
            "departure.max_s: found a second 'max_s' (the first is in line 3), expected each key once",
        ),
        ("http: !!binary aGk=", "http: found the tag !!binary, expected a value without a tag"),
        ("http: {? [a] : 1}", "http: found a key that is no name, expected a name"),
        ("[1, 2]", "yaml: found a list of 2, expected a mapping of settings"),
        ("production", 'yaml: found the text "production", expected a mapping of settings'),
        ("a: &x {b: *x}", "yaml: found deep nesting, expected at most 32 levels"),
        ("[" * 40 + "]" * 40, "yaml: found deep nesting, expected at most 32 levels"),
        (
            "http: [1",
            "yaml: found a syntax error (expected ',' or ']', but got '<stream end>'), expected valid YAML",
        ),
        (
            "http: a: b",
            "yaml: found a syntax error (mapping values are not allowed here), expected valid YAML",
        ),
        (
            "http: *nothing",
            "yaml: found a syntax error (found undefined alias 'nothing'), expected valid YAML",
        ),
        ("http: \x07", "yaml: found a syntax error (the character 0x7 is not allowed), expected valid YAML"),
        (b"http: \xff", "yaml: found the byte 0xff, expected UTF-8"),
    ],
)
def test_a_wrong_value_is_reported_with_its_place_what_was_found_and_what_was_expected(
    text, line, write, errors
):
    write("handshake: {upstream: {stabilization: {min_ms: 3}}}", "3ms.yaml")
    head = b"# first line\n\n" if isinstance(text, bytes) else "# first line\n\n"
    assert errors(head + text) == [f"gate.yaml:3: {line}"]


def test_everything_wrong_in_a_file_is_reported_at_once_in_the_order_of_lines(errors):
    found = errors(
        "extends: nowhere\n"
        "handshake:\n"
        "  accept: soon\n"
        "  deadline_s: 20\n"
        "  deadline_s: 21\n"
        "  client:\n"
        "    validation: {evidence: png, budget_ms: x, bugdet_ms: 1}\n"
        "    stabilization: {min_ms: 26}\n"
        "http:\n"
        "  connections: 0\n"
        "routes:\n"
        "  - path: ws\n"
        "  - path: /b\n"
        "    handshake:\n"
        "      redial: {tries: none}\n"
    )
    assert [line.split(": found")[0] for line in found] == [
        "gate.yaml:1: extends",
        "gate.yaml:3: handshake.accept",
        "gate.yaml:5: handshake.deadline_s",
        "gate.yaml:7: handshake.client.validation.evidence",
        "gate.yaml:7: handshake.client.validation.budget_ms",
        "gate.yaml:7: handshake.client.validation.bugdet_ms",
        "gate.yaml:8: handshake.client.stabilization.min_ms",
        "gate.yaml:10: http.connections",
        "gate.yaml:12: routes[0].path",
        "gate.yaml:15: routes[1].handshake.redial.tries",
    ]


def test_an_error_is_reported_in_the_file_that_holds_the_value(write, errors):
    write("# parent\nhttp:\n  connections: none\nhandshake:\n  redial: {base_ms: 900}\n", "parent.yaml")
    assert errors("extends: parent.yaml\nhandshake:\n  redial:\n    max_ms: 800\n") == [
        'parent.yaml:3: http.connections: found the text "none", expected a whole number from 1 to 100000',
        "gate.yaml:4: handshake.redial.max_ms: found 800, expected at least 900 (handshake.redial.base_ms is 900)",
    ]


def test_what_is_wrong_above_the_routes_is_not_repeated_for_each_of_them(errors):
    found = errors(
        "http: {connections: 0}\nroutes: [{path: /a}, {path: /b, session: {upstream_lost_code: 1}}]\n"
    )
    assert [line.split(": found")[0] for line in found] == [
        "gate.yaml:1: http.connections",
        "gate.yaml:2: routes[1].session.upstream_lost_code",
    ]


def test_the_same_mistake_at_the_top_and_in_a_route_is_two_mistakes(errors):
    found = errors("handshake: {accept: soon}\nroutes:\n  - path: /a\n    handshake: {accept: soon}\n")
    assert [line.split(": found")[0] for line in found] == [
        "gate.yaml:1: handshake.accept",
        "gate.yaml:4: routes[0].handshake.accept",
    ]


def test_a_deadline_that_many_budgets_exceed_is_reported_once(errors):
    assert len(errors("handshake: {deadline_s: 0.05, client: {validation: {budget_ms: 40}}}")) == 1


def test_a_cycle_over_several_files_is_shown(write, errors):
    write("extends: c.yaml", "b.yaml")
    write("extends: b.yaml", "c.yaml")
    assert errors("extends: b.yaml") == [
        "c.yaml:1: extends: found a cycle (b.yaml -> c.yaml -> b.yaml), expected a policy that does not extend this one"
    ]


def test_a_parent_that_is_not_yaml_is_reported_in_its_own_file(write, errors):
    write("\n\nhttp: [", "parent.yaml")
    assert errors("extends: parent.yaml") == [
        "parent.yaml:3: yaml: found a syntax error (expected the node content, but found '<stream end>'),"
        " expected valid YAML"
    ]


def test_a_file_that_cannot_be_read_is_reported_without_a_line(write, errors):
    assert errors("#" * ((1 << 20) + 1)) == [
        "gate.yaml: policy: found a larger file, expected at most 1048576 bytes"
    ]


def test_aliases_that_multiply_are_stopped(errors):
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    assert errors("\n".join(lines))[-1].endswith(
        "yaml: found too many values, expected at most 100000, aliases counted out"
    )


def test_nesting_beyond_the_parser_is_an_error_not_a_crash(errors):
    assert errors("[" * 100_000) == ["gate.yaml: yaml: found deep nesting, expected at most 32 levels"]


def test_a_problem_without_a_line_names_the_file_alone():
    assert str(Problem("f.yaml", None, "policy", "x", "y")) == "f.yaml: policy: found x, expected y"


def test_a_routes_own_tls_is_refused_at_its_line_also_in_a_parent(write, errors):
    write("routes:\n  - path: /a\n    upstream:\n      connect_timeout_s: 1\n      tls: {}\n", "parent.yaml")
    assert [line.split(": found")[0] for line in errors("extends: parent.yaml")] == [
        "parent.yaml:5: routes[0].upstream.tls"
    ]
