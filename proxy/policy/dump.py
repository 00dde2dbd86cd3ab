"""The effective policy as YAML: complete at the top, and for each route what it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from proxy.policy.model import Document


def dump(name: str, document: Document, overridden: list[Document]) -> str:
    """Return YAML that loads to the same policy, whatever the base is: it leaves nothing to be inherited."""
    top = _plain(document)
    routes = []
    for route, effective in zip(document.routes, overridden, strict=True):
        entry = {"path": route.path} | ({"rewrite": route.rewrite} if route.rewrite else {})
        routes.append(entry | _difference(top, _plain(effective)))
    body = top | ({"routes": routes} if routes else {})
    text = yaml.safe_dump(body, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return f"# effective policy: {' '.join(name.split())}\n{text}"


def _plain(document: Document) -> dict[str, Any]:
    found = document.model_dump(by_alias=True, exclude={"extends", "routes"})
    return {key: _tidy(value) for key, value in found.items()}


def _tidy(value: object) -> object:
    """Write whole numbers without a point."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _difference(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return what has to be laid over `below` to get `above`. A stage of another kind is written out."""
    changed = {}
    for key, value in above.items():
        old = below[key]
        if repr(value) == repr(old):  # unlike ==, this tells 1 from true
            continue
        alike = isinstance(value, dict) and isinstance(old, dict) and value.keys() == old.keys()
        changed[key] = _difference(old, value) if alike else value
    return changed
