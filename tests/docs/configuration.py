"""Write docs/configuration.md from policy model and command line: `python -m tests.docs.configuration`.

What a key means is the text below it in `proxy/policy/model.py` and `proxy/policy/jwt.py`, what a flag means
its help. Python forgets such texts when it compiles: they are read from the source, and cost a gate nothing.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from proxy import cli
from proxy.policy import keys, load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
PRESETS = ["development", "testing", "staging", "production", "classic"]
_HELP = re.compile(r"(?P<text>.*) \((?P<default>[^()]+)\)(?: \[(?P<variable>\w+)\])?", re.DOTALL)
_CODE = re.compile(
    r"(?:https?|wss?|unix):/[^\s,]*|\[IPv6\]:PORT|HOST:PORT|(?<!\S):PORT|\*\.[\w.]+|[\w.]+,\*\.[\w.]+"
    r"|READYGATE_\w+|\w+=1|readygate\[[\w-]+\]"
)

_TOP = """\
# Configuration

Every flag, variable and policy key, with its unit, range and default. Written by `make docs` from the policy
model and the command line's own help; a test fails when it is out of step. How policies work (presets,
inheritance, routes) is in [policies/README.md](../policies/README.md), what the settings do in
[concepts.md](concepts.md).

- [Command line](#command-line): {commands}
- [Policy keys](#policy-keys): {sections}
- [The presets side by side](#the-presets-side-by-side)

## Command line

Each flag of `run` has an environment variable; a flag wins over its variable, an empty variable counts as
not set, and switches take `on` or `off` there. Variables that are no flags, such as `READYGATE_ADMIN_TOKEN`,
`PORT` and `OTEL_*`, are in [reference.md](reference.md#environment), and so are the
[exit codes](reference.md#exit-codes).
"""

_KEYS = """
## Policy keys

`<leg>` is `client` or `upstream`. Units are part of the names. The default is what
[`production.yaml`](../policies/production.yaml) says, and behind it what `development`, `testing` or
`staging` says where it differs; for optional parts it is what applies once they are there; "required" has
none. Every `evidence` can be `fixed`: a plain delay of `budget_ms` that proves nothing. "Process": counted
over all routes, so not in a route; with several workers each counts its own. Who is refused by a limit gets
problem+json, with 429 and 503 also `Retry-After`; the upstream never hears of it.
"""

_PRESETS = """
## The presets side by side

Where they differ; what is not listed is the same in all. [`classic.yaml`](../policies/classic.yaml) is the
usual patch, fixed delays on the client leg only, to compare with ([migration.md](migration.md)).
"""


def page() -> str:
    """The whole page as it should stand in docs/."""
    sections = _sections()
    top = _TOP.format(
        commands=", ".join(f"[{name}](#readygate-{name})" for name in cli._COMMANDS),
        sections=", ".join(f"[`{name}`](#{_anchor(name)})" for name in sections),
    )
    parts = [top, *map(_command, cli._COMMANDS), _KEYS]
    for name, rows in sections.items():
        parts.append(f"\n### `{name}`\n")
        parts.append(_table(["key", "type, unit", "range", "default", "meaning"], rows))
    parts += [_PRESETS, _table(["key", *PRESETS], preset_rows())]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


# -- the command line ---------------------------------------------------------------------------------------


def _command(name: str) -> str:
    told = cli._COMMANDS[name][0]
    link = f"[Behaviour and samples](reference.md#readygate-{name})"
    text = f"### readygate {name}\n\n{told[0].upper()}{told[1:]}. {link}.\n"
    named, rows = command_flags(name)
    heads = ["flag", "environment", "default", "meaning"] if named else ["flag", "default", "meaning"]
    return text + "\n" + _table(heads, rows) if rows else text


def command_flags(command: str) -> tuple[bool, list[list[str]]]:
    """Whether flags of a command have variables, and its rows."""
    parser = cli._parser(command, {})
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    actions = [
        each for each in commands.choices[command]._actions if each.option_strings and each.dest != "help"
    ]
    told = {each.dest: _HELP.fullmatch(each.help or "") for each in actions}
    missing = [dest for dest, match in told.items() if match is None]
    assert not missing, f"help texts end in their default in brackets, these do not: {missing}"
    named = any(match["variable"] for match in told.values() if match)
    rows = []
    for action in actions:
        match = told[action.dest]
        assert match
        variable = [f"`{match['variable']}`" if match["variable"] else "none"] if named else []
        rows.append([_names(action), *variable, match["default"], _CODE.sub(r"`\g<0>`", match["text"])])
    return named, rows


def _names(action: argparse.Action) -> str:
    what = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else "")
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return f"{names} `{what.replace('|', ' or ')}`" if isinstance(what, str) and what else names


# -- policy keys --------------------------------------------------------------------------------------------


def _sections() -> dict[str, list[list[str]]]:
    """The rows of all keys that hold a value, by the section that they are told in."""
    rows: dict[str, list[str]] = {}
    for path, key in keys.table().items():
        if not key.inner or key.expected.endswith("or null"):
            shown = folded(path)
            unit = _unit(path)
            kind = f"{key.kind}, {unit}" if unit else key.kind
            rows[shown] = [f"`{shown}`", kind, key.span, _default(shown, key), meaning(key)]
    found: dict[str, list[list[str]]] = {}
    for path, row in rows.items():
        found.setdefault(_section(path), []).append(row)
    return found


def _section(path: str) -> str:
    for name in ("handshake.<leg>", "handshake.redial", "guard.jwt"):
        if path.startswith(f"{name}."):
            return name
    return re.split(r"[.\[]", path)[0]


def meaning(key: keys.Key) -> str:
    """What stands below the key's field in the model."""
    assert key.owner
    owner, name = key.owner
    text = _texts(owner).get(name)
    assert text, f"{owner.__name__}.{name} has no text below it that says what it means"
    return text


@cache
def _texts(model: type[BaseModel]) -> dict[str, str]:
    """The texts below the fields of a class: a string as a statement, right after the field."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def preset_rows() -> list[list[str]]:
    """Every key in which two presets differ, with its value in each."""
    flat = [_flat(name) for name in PRESETS]
    paths = list(dict.fromkeys(folded(path) for each in flat for path in each))
    rows = [[f"`{path}`", *(_folded_value(each, path) for each in flat)] for path in paths]
    return [row for row in rows if len(set(row[1:])) > 1]


def folded(path: str) -> str:
    """The path with `<leg>` in place of the leg."""
    return re.sub(r"^(handshake|keepalive)\.(client|upstream)\.", r"\1.<leg>.", path)


def _unit(path: str) -> str:
    if path.endswith("_per_s"):
        return "1/s"
    return next((unit for unit in ("ms", "bytes", "s") if re.search(rf"_{unit}(_total)?$", path)), "")


def _default(path: str, key: keys.Key) -> str:
    """What production says; for what it does not have, the model's own default."""
    assert key.owner
    owner, name = key.owner
    values = {preset: _folded_value(_flat(preset), path) for preset in PRESETS[:4]}
    if not values["production"]:
        default = owner.model_fields[name].default
        return "required" if default is PydanticUndefined else _text(default)
    others = [f"{preset}: {value}" for preset, value in values.items() if value != values["production"]]
    return f"{values['production']} ({', '.join(others)})" if others else values["production"]


def _folded_value(flat: dict[str, object], path: str) -> str:
    legs = [
        _text(flat[at]) if (at := path.replace("<leg>", leg)) in flat else ""
        for leg in ("client", "upstream")
    ]
    return legs[0] if legs[0] == legs[1] else f"client {legs[0]}, upstream {legs[1]}"


@cache
def _flat(preset: str) -> dict[str, object]:
    return dict(_leaves(yaml.safe_load(load(preset).dump()), ""))


def _leaves(value: object, path: str) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}" if path else key)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    PAGE.write_text(page())
