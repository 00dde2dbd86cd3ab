"""Reading a policy: any text gives a policy, or says what is wrong with it, with file and line.

An input is the text of a policy file.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from proxy.policy.load import Reading, examine
from tests.fuzz.target import Target

_PATHS = ("/", "", "/ws/a/b", "/" * 50, "/a%20b/" + "x/" * 40, "*", "\udcff")


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="readygate-fuzz-")


def read(data: bytes) -> Reading:
    file = Path(folder().name) / "policy.yaml"
    file.write_bytes(data)
    return examine(str(file))


def check(data: bytes) -> None:
    reading = read(data)
    if reading.policy is None:
        assert reading.problems
        for problem in reading.problems:
            line = str(problem)
            assert line.isprintable(), f"{line!r} is one line of text"
            assert problem.expected
        return
    assert not reading.problems
    for path in _PATHS:
        route = reading.policy.route(path)
        if route.matches(path):
            route.rewrite(path)
    again = read(reading.policy.dump().encode())
    assert again.policy == reading.policy, "what `readygate check` prints decides the same"


def end() -> None:
    folder().cleanup()
    folder.cache_clear()


TOKENS = (
    b"extends: production\n",
    b"extends: policy.yaml\n",
    b"extends: /dev/zero\n",
    b"handshake:\n",
    b"  deadline_s: 10\n",
    b"  accept: eager\n",
    b"  upstream: {announcement: {evidence: message, budget_ms: 5}}\n",
    b"  client: {stabilization: {evidence: fixed, budget_ms: 1}}\n",
    b"  redial: {tries: 3, statuses: [500, 503]}\n",
    b"routes:\n",
    b"  - path: /ws/**\n",
    b"    rewrite: /chat/**\n",
    b"    handshake: {deadline_s: 5}\n",
    b"limits: {sessions: 10, message_bytes: null}\n",
    b"session: {max_s: .inf}\n",
    b"drain: {grace_s: 1e309, spread_s: -0.0}\n",
    b"a: &a [*a]\n",
    b"&b b: *b\n",
    b"<<: *b\n",
    b"? [x]\n",
    b"!!python/none x\n",
    b"!!timestamp 2001-99-99\n",
    b"[" * 600,
    b"0x1F",
    b"99999999999999999999",
    b": .nan\n",
    b": ~\n",
    b"- ",
    b"{",
    b"---\n",
    b"%YAML 9.9\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x85",
)
TARGET = Target("policy", check, TOKENS, longest=2048, few=40, end=end)
