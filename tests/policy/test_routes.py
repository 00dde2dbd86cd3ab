from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.routes import checked_pattern, checked_rewrite, compile_pattern, rewritten


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/", ["/"], ["", "//", "/a"]),
        ("/ws", ["/ws"], ["/ws/", "/WS", "/wsx", "/ws/a", "ws", "/w%73", "/ws\n"]),
        ("/ws/", ["/ws/"], ["/ws", "/ws//"]),
        ("/a.b+c", ["/a.b+c"], ["/aXb+c", "/a.bbc"]),
        ("/ws/*", ["/ws/a", "/ws/%2F"], ["/ws", "/ws/", "/ws/a/", "/ws/a/b"]),
        ("/ws/v*", ["/ws/v", "/ws/v1"], ["/ws/w", "/ws/v1/", "/ws/v/1"]),
        ("/*.json", ["/.json", "/a.json", "/a.json.json"], ["/a.jsonx", "/a/b.json"]),
        ("/a*b*c", ["/abc", "/aXbXbXc", "/abcbc", "/abcc"], ["/ac", "/ab", "/abc/", "/acb"]),
        ("/ws/**", ["/ws", "/ws/", "/ws/a", "/ws/a//b/"], ["/wsx", "/w", "/"]),
        ("/**", ["/", "/a", "/a/b", "//", ""], ["*"]),
        ("/**/x", ["/x", "/a/x", "/x/x", "/a/b/x"], ["/x/", "/xx", "/a/xx"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/1/b/2/3/c", "/a/b/b/c/c"], ["/a/c/b", "/a/b", "/a/bb/c"]),
        ("/**/**", ["/", "/a/b"], ["x"]),
        ("/caf%C3%A9", ["/caf%C3%A9"], ["/caf%c3%a9", "/café"]),
        ("/a$(b)", ["/a$(b)"], ["/a", "/ab"]),
    ],
)
def test_a_pattern_matches_whole_raw_paths(pattern, matching, others):
    regex = compile_pattern(checked_pattern(pattern))
    assert [path for path in matching if not regex.fullmatch(path)] == []
    assert [path for path in others if regex.fullmatch(path)] == []


def plain_match(pattern: list[str], path: list[str]) -> bool:
    """The definition of a match, tried exhaustively."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(plain_match(pattern[1:], path[n:]) for n in range(len(path) + 1))
    if not path:
        return False
    piece = pattern[0]
    one = bool(path[0]) if piece == "*" else re.fullmatch(re.escape(piece).replace(r"\*", ".*"), path[0])
    return bool(one) and plain_match(pattern[1:], path[1:])


piece = st.one_of(st.sampled_from(["**", "*"]), st.text("ab*", max_size=4).filter(lambda p: "**" not in p))


@given(st.lists(piece, min_size=1, max_size=6), st.lists(st.text("ab", max_size=4), min_size=1, max_size=8))
def test_a_pattern_matches_what_its_definition_says(pattern, path):
    found = compile_pattern("/" + "/".join(pattern)).fullmatch("/" + "/".join(path))
    assert bool(found) == plain_match(pattern, path)


@pytest.mark.parametrize(
    "pattern", ["/**/a/**/a/**/a/**/a/**/b", "/**/*a*a*a*a*b/**/c", "/a*a*a*a*a*a*b", "/**/*/*/*/b"]
)
@pytest.mark.parametrize(
    "path", ["/a" * 50_000, "/" + "a" * 100_000, "/" * 100_000, "/a/aaaa" * 15_000 + "/c"]
)
def test_a_hostile_path_costs_no_more_than_its_length(pattern, path):
    regex = compile_pattern(checked_pattern(pattern))
    started = time.process_time()
    assert regex.fullmatch(path) is None
    assert time.process_time() - started < 1  # with backtracking: hours


@pytest.mark.parametrize(
    ("pattern", "rewrite", "path", "expected"),
    [
        ("/websocket", "/ws", "/websocket", "/ws"),
        ("/ws/*", "/one", "/ws/x", "/one"),
        ("/ws/**", "/socket", "/ws/a/b", "/socket"),
        ("/ws/**", "/socket/**", "/ws", "/socket"),
        ("/ws/**", "/socket/**", "/ws/", "/socket/"),
        ("/ws/**", "/socket/**", "/ws/a//b/%2F", "/socket/a//b/%2F"),
        ("/ws/**", "/**", "/ws", "/"),
        ("/ws/**", "/**", "/ws/a", "/a"),
        ("/**", "/v2/**", "/", "/v2/"),
        ("/a/**/z", "/b/**", "/a/1/2/z", "/b/1/2"),
        ("/*/x/**", "/y/**", "/any/x/1", "/y/1"),
    ],
)
def test_a_rewrite_replaces_the_path_and_carries_what_double_star_matched(pattern, rewrite, path, expected):
    assert rewritten(compile_pattern(pattern), checked_rewrite(rewrite), path) == expected


@given(st.lists(st.text("ab%2F.", max_size=4), max_size=6))
def test_a_rewrite_to_the_same_prefix_changes_nothing(parts):
    path = "/".join(["/ws", *parts])
    assert rewritten(compile_pattern("/ws/**"), "/ws/**", path) == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a path that starts with /, such as /ws/**"),
        ("ws", "a path that starts with /, such as /ws/**"),
        ("**", "a path that starts with /, such as /ws/**"),
        ("/a?b=1", "a path without query or fragment"),
        ("/a#b", "a path without query or fragment"),
        ("/a b", "a percent-encoded path (RFC 3986 section 3.3)"),
        ("/café", "a percent-encoded path (RFC 3986 section 3.3)"),
        ("/a%2", "a percent-encoded path (RFC 3986 section 3.3)"),
        ("/a\n", "a percent-encoded path (RFC 3986 section 3.3)"),
        ("/a**", "** as a segment of its own, such as /ws/**"),
        ("/***/a", "** as a segment of its own, such as /ws/**"),
    ],
)
def test_a_wrong_pattern_is_told_what_a_pattern_is(text, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        checked_pattern(text)


@pytest.mark.parametrize("text", ["/*", "/a/*/b", "/a/**/b", "/a**", "/**/**"])
def test_a_wrong_rewrite_is_told_what_a_rewrite_is(text):
    with pytest.raises(ValueError, match="a path without wildcards, or with"):
        checked_rewrite(text)
