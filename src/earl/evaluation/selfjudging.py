"""Was a model trained by the verifier that now judges it? Then its scores flatter it.

What is looked at: `verifier` in the model's `earl.json`, and the recipe beside the model folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earl.errors import EarlError
from earl.models.resolve import read_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def trained_by(model: Path) -> list[dict[str, Any]]:
    """The verifiers that a model folder says it was trained by: {"kind", "model"}; [] where it says none."""
    found: list[dict[str, Any]] = []
    if (model / "earl.json").is_file():
        try:
            meta = read_json(model / "earl.json")
        except EarlError:
            meta = {}
        origin = meta.get("origin")
        for place in (meta, origin if isinstance(origin, dict) else {}):
            found += _verifiers(place.get("verifier"))
    for recipe in (model / "recipe.toml", model.parent / "recipe.toml"):
        if recipe.is_file():
            found += _of_recipe(recipe)
            break
    return [entry for place, entry in enumerate(found) if entry not in found[:place]]


def warning(model: Path, verifier: Mapping[str, Any]) -> str:
    """The sentence to print where a model is judged by its own teacher; "" where it is not."""
    for teacher in trained_by(model):
        if _same_model(teacher, verifier) or (_is_scene(teacher) and _is_scene(verifier)):
            name = verifier.get("model") or f"the {verifier['kind']} verifier"
            return (
                f"{name} judges this model and gave the rewards that trained it: its scores may flatter it. "
                "Judge with another one (the paper trained with Qwen2.5-VL-72B and judged with gpt-4o-mini)"
            )
    return ""


def _same_model(teacher: Mapping[str, Any], verifier: Mapping[str, Any]) -> bool:
    names = [str(entry.get("model") or "").rpartition("/")[2].lower() for entry in (teacher, verifier)]
    return bool(names[0]) and names[0] == names[1]


def _is_scene(entry: Mapping[str, Any]) -> bool:
    """The world's own verifier, in the process or served by `earl verifier serve`."""
    return entry["kind"] == "scene" or entry.get("model") == "earl-scene"


def _of_recipe(path: Path) -> list[dict[str, Any]]:
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if recipe.get("stage") != "grpo":
        return []
    section = recipe.get("verifier")
    if isinstance(section, dict):  # a second verifier looks at held-out prompts and gives no rewards
        section = {name: value for name, value in section.items() if name != "second"}
    named = _verifiers(section)
    in_the_world = recipe.get("prompts", {}).get("origin", "world") == "world"
    return named or ([{"kind": "scene", "model": None}] if in_the_world else [])


def _verifiers(value: Any) -> list[dict[str, Any]]:
    """Entries with a kind or a model, wherever they stand: a name, a table, or a list of them."""
    if isinstance(value, str):
        kind = value if value in ("scene", "judge", "reference") else "judge"
        return [{"kind": kind, "model": None if kind == value else value}]
    if isinstance(value, list):
        return [entry for part in value for entry in _verifiers(part)]
    if not isinstance(value, dict):
        return []
    inside = [entry for part in value.values() if isinstance(part, dict | list) for entry in _verifiers(part)]
    if isinstance(value.get("kind"), str) or isinstance(value.get("model"), str):
        return [{"kind": str(value.get("kind", "judge")), "model": value.get("model")}, *inside]
    return inside
