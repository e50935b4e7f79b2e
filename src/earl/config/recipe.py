"""Read a recipe (TOML), apply `key.sub=value` overrides, check it strictly, save what was resolved.

A key that no section knows is an error that names the nearest real one: a misspelt key that
is silently ignored costs a training run. What the sections hold is in `sections.py`, the
recipe of each stage in `stages.py`.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from earl.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RecipeT = TypeVar("RecipeT", bound="Section")
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Section(BaseModel):
    """A group of settings: frozen, no unknown keys, no silent conversions between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def read_recipe_table(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Parse a TOML file and lay the overrides over it; nothing is checked against a schema yet.

    Args:
        path: a TOML file.
        overrides: items like `optimiser.learning_rate=3e-4`; the value is TOML, and what is not
            TOML is taken as a string (`run.folder=runs/a`).

    Raises:
        ConfigError: the file is missing or not TOML, or an override has no `=` or no key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {path} is not valid TOML: {error}") from error
    for override in overrides:
        _apply_override(table, override)
    return table


def apply_overrides(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The table with the overrides laid over it; see `read_recipe_table`. Raises ConfigError."""
    found = json.loads(json.dumps(table, default=str))
    for override in overrides:
        _apply_override(found, override)
    return found


def check(schema: type[RecipeT], table: Mapping[str, Any], *, origin: str = "recipe") -> RecipeT:
    """Check a table against a schema.

    Args:
        origin: what to call the table in a message (a path, or "recipe").

    Raises:
        ConfigError: the first thing that is wrong: an unknown key with the nearest real one, a
            missing key, a wrong type, a value out of range, or fields that disagree.
    """
    try:
        payload = json.dumps(table, default=str)  # JSON mode: lists may become tuples, text paths
        return schema.model_validate_json(payload, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(schema, error)}") from error


def load_recipe(schema: type[RecipeT], path: str | Path, overrides: Sequence[str] = ()) -> RecipeT:
    """`read_recipe_table` followed by `check`."""
    return check(schema, read_recipe_table(path, overrides), origin=str(path))


def save_recipe(recipe: Section, path: str | Path) -> Path:
    """Write the resolved recipe, every default spelt out, as TOML that `load_recipe` reads back."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_toml(recipe), encoding="utf-8")
    return path


def recipe_toml(recipe: Section) -> str:
    """The resolved recipe as TOML text. Fields that are None are left out (None is their default)."""
    lines: list[str] = []
    _write_table(recipe.model_dump(mode="json"), (), lines)
    return "\n".join(lines).strip() + "\n"


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    node = table
    for depth, part in enumerate(parts[:-1]):
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"override {override!r}: {'.'.join(parts[: depth + 1])} is a value, not a section"
            )
        node = child
    node[parts[-1]] = value


def _explain(schema: type[Section], error: ValidationError) -> str:
    # An unknown key first: a missing or default field next to it is often only its consequence.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}; {_nearest(schema, where)}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing and has no default"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where} = {problem['input']!r}: {message}"


def _nearest(schema: type[Section], key: str) -> str:
    names = list(_dotted_names(schema))
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not close:  # the right name in the wrong section, or a section left out
        leaf = key.rpartition(".")[2]
        leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
        close = [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    if close:
        return f"did you mean {close[0]!r}?"
    parent = key.rpartition(".")[0]
    siblings = [name for name in names if name.rpartition(".")[0] == parent] or [
        name for name in names if "." not in name
    ]
    return f"known keys there: {', '.join(siblings)}"


def _dotted_names(schema: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in schema.model_fields.items():
        yield prefix + name
        named = "<name>." if get_origin(field.annotation) is dict else ""
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _dotted_names(inner, f"{prefix}{name}.{named}")


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    if path:
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, dict):
            _write_table(value, (*path, key), lines)


def _key(name: str) -> str:
    return name if name and set(name) <= _BARE else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):  # in a list; elsewhere a dict is a table
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    raise TypeError(f"{type(value).__name__} has no place in a recipe")
