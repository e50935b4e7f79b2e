"""Recipes as TOML files: reading, `key.sub=value` overrides, strict checks, saving.

A key that no section knows is an error that names the nearest real one: a misspelt key that is silently
ignored costs a training run. Sections are in `sections.py`, the recipe of each stage in `stages.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from earl.config.settings import Settings, explain
from earl.errors import ConfigError
from earl.files import parse_toml, read_text, write_text

RecipeT = TypeVar("RecipeT", bound="Settings")
_ADDRESS = re.compile(r"(https?://)(?:[^\s\"'/@]*@)?([^\s\"'?]*)(?:\?[^\s\"']*)?")


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
    if path.is_dir():
        raise ConfigError(f"recipe {path} is a folder; name a TOML file, as {path / 'recipe.toml'}")
    if not path.exists():
        raise ConfigError(f"recipe {path} does not exist")
    table = parse_toml(read_text(path, error=ConfigError), f"recipe {path}", error=ConfigError)
    for override in overrides:
        _apply_override(table, override)
    return table


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
    except RecursionError as error:
        raise ConfigError(f"{origin} is nested too deeply to be read") from error
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":  # half of a surrogate pair, which JSON cannot hold
            raise ConfigError(
                f"{origin}: a name or text in it is not valid Unicode; write it anew"
            ) from error
        raise ConfigError(f"{origin}: {explain(schema, error)}") from error


def load_recipe(schema: type[RecipeT], path: str | Path) -> RecipeT:
    """`read_recipe_table` followed by `check`."""
    return check(schema, read_recipe_table(path), origin=str(path))


def save_recipe(recipe: Settings, path: str | Path) -> Path:
    """Write the resolved recipe, every default spelt out, as TOML that `load_recipe` reads back."""
    return write_text(path, recipe_toml(recipe))


def recipe_toml(recipe: Settings) -> str:
    """The resolved recipe as TOML text. Fields that are None are left out (None is their default)."""
    return tomli_w.dumps(recipe_table(recipe))


def recipe_table(recipe: Settings) -> dict[str, Any]:
    """The resolved recipe as tables and plain values, without the fields that are None."""
    return _without_none(recipe.model_dump(mode="json"))


def without_secrets(text: str) -> str:
    """A recipe's text for others: web addresses without user, password and query, which may hold keys."""
    return _ADDRESS.sub(r"\1\2", text)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if any(0xD800 <= ord(letter) < 0xE000 for letter in override):  # how bytes come that are not UTF-8
        raise ConfigError(f"override {override!r} is not valid UTF-8 text")
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    try:
        value = parse_toml(f"value = {text.strip()}", f"override {override!r}", error=ConfigError)["value"]
    except ConfigError:
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
