"""The files that a policy names beside itself: where they are, and which they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.policy.settings import Policy
    from proxy.policy.tree import Node

_NAMED: Final = (
    ("upstream", "tls", "ca_file"),
    ("guard", "jwt", "jwks", "ca_file"),
    ("guard", "jwt", "keys", "file"),
)


def anchored(tree: Node, folder: Path) -> Node:
    """Make relative paths in a policy relative to `folder`, that of its file. Changes the tree itself."""
    routes = tree.entries().get("routes")
    for section in (tree, *(routes.items() if routes else [])):
        for path in _NAMED:
            _anchor(section, path, folder.absolute())
    return tree


def _anchor(node: Node, path: tuple[str, ...], folder: Path) -> None:
    for item in node.items():
        _anchor(item, path, folder)
    found = node.entries().get(path[0])
    if found is None:
        return
    if path[1:]:
        _anchor(found, path[1:], folder)
    elif isinstance(found.value, str) and found.value:
        node.entries()[path[0]] = replace(found, value=str(folder / found.value))


def named_files(policy: Policy) -> Iterator[Path]:
    """Yield every file that a policy names: authorities to trust, keys that tokens are checked by."""
    for route in (policy.default, *policy.routes):
        if ca_file := route.settings.upstream.tls.ca_file:
            yield Path(ca_file)
        jwt = route.settings.guard.jwt
        if jwt is None:
            continue
        if jwt.jwks is not None and jwt.jwks.ca_file:
            yield Path(jwt.jwks.ca_file)
        yield from (Path(key.file) for key in jwt.keys if key.file)
