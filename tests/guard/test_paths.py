from __future__ import annotations

import pytest

from proxy.guard import path_denied


@pytest.mark.parametrize(
    "path", ["/", "/ws", "/ws/", "/a.b/..c/...", "/caf%C3%A9/%20x", "/a;b=1/c", "/.well-known/x", "/%5B1%5D"]
)
def test_an_ordinary_path_has_one_meaning(path):
    assert path_denied(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/public/../ws", "/public/..", "/./ws", "/ws/.", "//ws", "/public//ws", "/%77s", "/w%53",
        "/a/%2e%2e/ws", "/a%2fb", "/a%2Fb", "/a%5Cb", "/a\\b", "/a/..;/ws", "/%31", "/a%00",
        "/%252e%252e/ws", "/%7euser",
    ],
)  # fmt: skip
def test_a_path_that_a_backend_may_read_as_another_does_not(path):
    assert path_denied(path).status == 400
