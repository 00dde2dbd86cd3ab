from __future__ import annotations

import pytest

from proxy.policy import detect, presets


@pytest.mark.parametrize("variable", ["ENVIRONMENT", "ENV"])
@pytest.mark.parametrize(
    ("word", "preset"),
    [
        ("development", "development"),
        ("Dev", "development"),
        ("develop", "development"),
        ("LOCAL", "development"),
        ("testing", "testing"),
        ("test", "testing"),
        ("ci", "testing"),
        ("staging", "staging"),
        ("stage", "staging"),
        ("stg", "staging"),
        ("PRODUCTION", "production"),
        (" prod ", "production"),
        ("live", "production"),
    ],
)
def test_a_named_environment_decides(variable, word, preset):
    assert detect({variable: word}) == preset
    assert preset in presets()


@pytest.mark.parametrize(
    ("environ", "preset"),
    [
        ({}, "development"),
        ({"ENVIRONMENT": "staging", "ENV": "prod"}, "staging"),
        ({"ENVIRONMENT": "", "ENV": "prod"}, "production"),
        ({"ENVIRONMENT": "dev", "K_SERVICE": "chat"}, "development"),
        ({"ENVIRONMENT": "staging", "K_SERVICE": "chat"}, "staging"),
        ({"ENVIRONMENT": "staging", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "staging"),
        ({"ENV": "/home/me/.shrc"}, "development"),
        ({"ENV": "/home/me/.shrc", "K_SERVICE": "chat"}, "production"),
        ({"K_SERVICE": "chat"}, "production"),
        ({"K_SERVICE": "chat-staging"}, "staging"),
        ({"K_SERVICE": "stg-chat"}, "staging"),
        ({"K_SERVICE": "Chat-Stage-2"}, "staging"),
        ({"K_SERVICE": "stager"}, "production"),
        ({"K_SERVICE": "backstage"}, "production"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "production"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "CI": "true"}, "production"),
        ({"K_SERVICE": "chat", "PYTEST_CURRENT_TEST": "x"}, "production"),
        ({"CI": "true"}, "testing"),
        ({"CI": "1"}, "testing"),
        ({"CI": "false"}, "development"),
        ({"CI": "0"}, "development"),
        ({"CI": ""}, "development"),
        ({"PYTEST_CURRENT_TEST": "tests/x.py::test (call)"}, "testing"),
    ],
)
def test_the_first_rule_that_says_something_decides(environ, preset):
    assert detect(environ) == preset
