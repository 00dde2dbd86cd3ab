"""What the README's tables should say, taken from the models and the presets."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic_core import PydanticUndefined

from proxy.policy import jwt, keys, load, model, presets

README = presets()["production"].parent / "README.md"
PRESETS = ["development", "testing", "staging", "production", "classic"]
# What production does not have, by the model that does.
_OPTIONAL = {
    "extends": (model.Document, "extends"),
    "routes": (model.Document, "routes"),
    "handshake.<leg>.stabilization.budget_ms": (model.FixedDelay, "budget_ms"),
    "handshake.<leg>.announcement.evidence": (model.Announcement, "evidence"),
    "handshake.<leg>.announcement.budget_ms": (model.Announcement, "budget_ms"),
    "handshake.<leg>.announcement.on_expiry": (model.Announcement, "on_expiry"),
    "handshake.<leg>.announcement.json": (model.Announcement, "json_"),
    "handshake.<leg>.announcement.json.path": (model.JsonMessage, "path"),
    "handshake.<leg>.announcement.json.equals": (model.JsonMessage, "equals"),
} | {f"routes[].{name}": (model.Route, name) for name in model.Route.model_fields}
_OPTIONAL |= {
    f"guard.jwt.{path}{field.alias or name}": (owner, name)
    for path, owner in (
        ("", jwt.Jwt),
        ("sources[].", jwt.TokenSource),
        ("keys[].", jwt.TokenKey),
        ("jwks.", jwt.KeySet),
    )
    for name, field in owner.model_fields.items()
}


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, header and rule left out."""
    lines = iter(Path(README).read_text().partition(f"\n## {heading}\n")[2].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


def key_rows() -> list[list[str]]:
    """`key, type, unit, default, range` of every key that holds a value."""
    rows = {}
    for path, key in keys.table().items():
        if not key.inner or key.expected.endswith("or null"):
            shown = folded(path)
            rows[shown] = [f"`{shown}`", key.kind, _unit(path), _default(shown), key.span]
    return list(rows.values())


def preset_rows() -> list[list[str]]:
    """Every key in which two presets differ, with its value in each."""
    flat = [_flat(yaml.safe_load(load(name).dump())) for name in PRESETS]
    paths = list(dict.fromkeys(folded(path) for each in flat for path in each))
    rows = [[f"`{path}`", *(_folded_value(each, path) for each in flat)] for path in paths]
    return [row for row in rows if len(set(row[1:])) > 1]


def folded(path: str) -> str:
    return re.sub(r"^(handshake|keepalive)\.(client|upstream)\.", r"\1.<leg>.", path)


def _unit(path: str) -> str:
    if path.endswith("_per_s"):
        return "1/s"
    return next((unit for unit in ("ms", "bytes", "s") if re.search(rf"_{unit}(_total)?$", path)), "")


def _default(path: str) -> str:
    if path not in _OPTIONAL:
        return _folded_value(_flat(yaml.safe_load(load("production").dump())), path)
    owner, name = _OPTIONAL[path]
    default = owner.model_fields[name].default
    return "required" if default is PydanticUndefined else _text(default)


def _folded_value(flat: dict[str, object], path: str) -> str:
    legs = [_text(flat.get(path.replace("<leg>", leg), "")) for leg in ("client", "upstream")]
    return legs[0] if legs[0] == legs[1] else f"client {legs[0]}, upstream {legs[1]}"


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, object] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{path}.{key}" if path else key)
    return found


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
