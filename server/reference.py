"""The reference of the settings, made of the fields themselves and of what stands below each in `server/settings.py`."""

from __future__ import annotations

import ast
import itertools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from server import settings
from server.settings import Settings, variables

_INTRODUCTION = """\
# Settings

From the environment first, then from the YAML file under the same names, upper or lower case, then the defaults.
`LOQUENT_CONFIG` names that file; without it `./loquent.yaml` is read where it exists. A variable that is empty counts as not set.
`loquent doctor` shows where each value came from.

This page is made by `loquent settings --markdown`.

| name | meaning | type | default |
|---|---|---|---|
"""
_KINDS: Mapping[object, str] = {
    bool: "on or off",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple: "list",
    dict: "names and what stands under each",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting. `names` are those of the environment; `default` is empty where there is none."""

    field: str
    names: tuple[str, ...]
    meaning: str
    kind: str
    default: str


def entries() -> Iterator[Entry]:
    meanings = _meanings()
    for name, field in Settings.model_fields.items():
        yield Entry(name, tuple(variables(name)), meanings.get(name, ""), _kind(field), _shown(field.default))


def markdown() -> str:
    lines = []
    for entry in entries():
        names = " or ".join(f"`{name}`" for name in entry.names)
        cells = (
            names,
            entry.meaning.replace("|", "\\|"),
            entry.kind,
            f"`{entry.default}`" if entry.default else "none",
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    return _INTRODUCTION + "".join(lines)


def _meanings() -> dict[str, str]:
    """The text below each field of the class."""
    tree = ast.parse(Path(settings.__file__).read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Settings.__name__)
    found = {}
    for field, below in itertools.pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _kind(field: FieldInfo) -> str:
    kind = _named(field.annotation)
    bounds = [part for metadata in field.metadata for part in _bounds(metadata)]
    return f"{kind}, {' and '.join(bounds)}" if bounds else kind


def _named(annotation: object) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _named(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_named(argument) for argument in arguments if argument is not type(None))
    return _KINDS[origin or annotation]


def _bounds(metadata: object) -> Iterator[str]:
    match metadata:
        case Ge(ge=least):
            yield f"{least} or more"
        case Gt(gt=least):
            yield f"more than {least}"
        case Le(le=most):
            yield f"{most} at most"


def _shown(default: object) -> str:
    match default:
        case None | () | "":
            return ""
        case bool():
            return "on" if default else "off"
        case tuple():
            return ", ".join(map(str, default))
        case float():
            return f"{default:g}"
        case _:
            return str(default)
