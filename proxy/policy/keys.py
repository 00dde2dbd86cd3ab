"""The model as a flat table of keys: what error messages and docs/configuration.md say comes from here."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen
from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from proxy.policy.model import Document
from proxy.policy.problems import either


@dataclass(slots=True)
class Key:
    """One key: its kind, its range as text (`span`), and the words of an error (`expected`).

    `tags` names the stage kinds that have it (none: all); `inner` holds a mapping's keys in order, `item` is
    what a list holds. `owner` is the model's class and field.
    """

    kind: str
    span: str
    expected: str
    choices: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    inner: dict[str, Key] = field(default_factory=dict)
    item: Key | None = None
    owner: tuple[type[BaseModel], str] | None = None

    def names(self, tag: str | None) -> list[str]:
        """Return the names of a mapping's keys, of one kind of a stage if `tag` is given."""
        return [name for name, key in self.inner.items() if tag is None or not key.tags or tag in key.tags]


@cache
def document() -> Key:
    """Return the root of the table."""
    return _describe(Document, [])


def table() -> dict[str, Key]:
    """Return every key by its dotted path, lists' items as `path[]`, in the order of the model."""
    rows: dict[str, Key] = {}

    def walk(key: Key, path: str) -> None:
        for name, inner in key.inner.items():
            rows[f"{path}{name}"] = inner
            walk(inner, f"{path}{name}.")
            if inner.item and inner.item.inner:
                walk(inner.item, f"{path}{name}[].")

    walk(document(), "")
    return rows


def _describe(annotation: object, metadata: list[Any]) -> Key:
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        metadata = [*metadata, *extra]
    flat = [each for item in metadata for each in (item.metadata if isinstance(item, FieldInfo) else [item])]
    words = next((i.description for i in metadata if isinstance(i, FieldInfo) and i.description), None)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return Key("value", words, words) if words else _union(args)
    if origin is Literal:
        return _choice(list(args))
    if origin is list:
        return _list(_describe(args[0], []), flat)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _mapping(annotation, next((item.tag for item in flat if isinstance(item, Tag)), None))
    return _scalar(annotation, flat, words)


def _choice(names: list[str]) -> Key:
    return Key("choice", ", ".join(names), either(names), choices=names)


def _scalar(annotation: object, metadata: list[Any], words: str | None) -> Key:
    if annotation is bool:
        return Key("true or false", "", "true or false")
    if annotation in {int, float}:
        low = next(item.ge for item in metadata if isinstance(item, Ge))
        high = next(item.le for item in metadata if isinstance(item, Le))
        kind = "whole number" if annotation is int else "number"
        return Key(
            kind,
            words or f"{low} to {high}",
            f"a {kind}: {words}" if words else f"a {kind} from {low} to {high}",
        )
    if annotation is str:
        return Key("text", words or "", words or "text")
    return Key("mapping", "", "a mapping")


def _list(item: Key, metadata: list[Any]) -> Key:
    most = next(each.max_length for each in metadata if isinstance(each, MaxLen))
    expected = f"a list of at most {most}, each {item.expected}"
    span = f"at most {most}" + (f", each {item.span}" if item.span else "")
    return Key("list", span, expected, item=item)


def _mapping(model: type[BaseModel], tag: str | None) -> Key:
    key = Key("mapping", "", "a mapping")
    for name, info in model.model_fields.items():
        inner = _describe(Annotated[info.annotation, info], [])
        inner.tags = {tag} if tag else set()
        inner.owner = (model, name)
        key.inner[info.alias or name] = inner
    return key


def _union(args: tuple[Any, ...]) -> Key:
    """Describe `X | None`, or the kinds of a stage as one mapping that has the keys of all."""
    kinds = [_describe(arg, []) for arg in args if arg is not types.NoneType]
    first = kinds[0]
    for other in kinds[1:]:
        for name, key in other.inner.items():
            mine = first.inner.setdefault(name, key)
            mine.tags |= key.tags
            if mine is not key and mine.choices != key.choices:
                both = _choice(mine.choices + key.choices)
                both.tags, both.owner = mine.tags, mine.owner
                first.inner[name] = both
    if types.NoneType in args:
        first.expected += " or null"
        first.span = f"{first.span} or null" if first.span else "or null"
    return first
