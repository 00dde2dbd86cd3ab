"""Path patterns and rewrites: `*` is one segment or a part of one, `**` any number of segments.

Patterns see the path as it came: percent-encoded, without the query, not normalised.
"""

from __future__ import annotations

import re

# RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_SEGMENT_END = r"(?=/|\Z)"
_ANY_SEGMENTS = r"(?:/[^/]*+)*?"


def checked_pattern(text: str) -> str:
    """Return `text` if it is a path pattern. Raise ValueError saying what a pattern is like."""
    _check_path(text)
    if any("**" in part and part != "**" for part in text.split("/")):
        raise ValueError("** as a segment of its own, such as /ws/**")
    return text


def checked_rewrite(text: str) -> str:
    """Return `text` if it is the target of a rewrite. Raise ValueError saying what one is like."""
    _check_path(text)
    if "*" in text.removesuffix("/**"):
        raise ValueError("a path without wildcards, or with ** as its last segment")
    return text


def _check_path(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError("a path that starts with /, such as /ws/**")
    if "?" in text or "#" in text:
        raise ValueError("a path without query or fragment")
    if not all(_SEGMENT.fullmatch(part) for part in text.split("/")):
        raise ValueError("a percent-encoded path (RFC 3986 section 3.3)")


def rewrite_fault(pattern: str, rewrite: str) -> str | None:
    """Say what a rewrite needs that its pattern lacks, None when nothing; both are valid on their own."""
    if "**" in rewrite and pattern.split("/").count("**") != 1:
        return f"a rewrite without **, as the path {pattern} does not have exactly one"
    return None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a valid pattern for `fullmatch`; group `rest` is what the first `**` took, with its slash.

    Each wildcard takes as little as lets what follows it match, and is never tried longer (atomic groups):
    more that it could take, the next wildcard takes as well. So a match costs at most the path's length times
    the pattern's, whatever the path.
    """
    runs: list[list[str]] = [[]]
    for part in pattern.split("/")[1:]:
        if part == "**":
            runs.append([])
        else:
            runs[-1].append(_segment(part))
    head, *tail = ["".join(run) for run in runs]
    atoms = [_any_segments_then(run, number, len(tail)) for number, run in enumerate(tail, 1)]
    return re.compile(head + "".join(atoms), re.DOTALL)


def _any_segments_then(run: str, number: int, last: int) -> str:
    name = "?P<rest>" if number == 1 else "?:"
    if number == last:
        return f"(?>({name}{_ANY_SEGMENTS}){run}\\Z)" if run else f"({name}(?:/.*)?)"
    return f"(?>({name}{_ANY_SEGMENTS}){run})"


def _segment(part: str) -> str:
    if part == "*":
        return "/[^/]++"
    first, *pieces = (re.escape(piece) for piece in part.split("*"))
    if not pieces:
        return f"/{first}{_SEGMENT_END}"
    middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[:-1])
    return f"/{first}{middle}(?>[^/]*?{pieces[-1]}{_SEGMENT_END})"


def rewritten(regex: re.Pattern[str], rewrite: str, path: str) -> str:
    """Return where `path`, which `regex` matches, goes to."""
    if not rewrite.endswith("/**"):
        return rewrite
    match = regex.fullmatch(path)
    rest = match["rest"] if match else ""
    return (rewrite.removesuffix("/**") + rest) or "/"
