"""Check for self-judging: a model judged by the verifier whose rewards trained it scores too high.

What is read: `verifier` in the model's `earl.json`, and the recipe and `run.json` beside the model folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from earl.config.verifier import JUDGED
from earl.errors import EarlError
from earl.files import parse_toml, read_object, read_text


def trained_by(model: Path) -> list[str]:
    """The names of the verifiers that a model folder says it was trained by (`verifier_name`)."""
    names = [verifier_name(entry) for entry in (*_of_metadata(model), *_of_recipe(model))]
    return sorted({name for name in names if name})


def warning(model: Path, verifier: Mapping[str, Any]) -> str:
    """The warning where the verifier that judges a model also gave its training rewards; "" elsewhere."""
    if not (name := verifier_name(verifier)) or name not in trained_by(model):
        return ""
    shown = verifier.get("model") or f"the {verifier['kind']} verifier"
    return (
        f"{shown} judges this model and gave the rewards that trained it: its scores may flatter it. "
        "Judge with another one (the paper trained with Qwen2.5-VL-72B and judged with gpt-4o-mini)"
    )


def verifier_name(entry: Mapping[str, Any]) -> str:
    """What tells a verifier from others: its model without the owner, or "earl-KIND", the name under which
    `earl verifier serve` serves one; "" where a judge's model is not known."""
    model, kind = str(entry.get("model") or ""), str(entry.get("kind", "judge"))
    return model.rpartition("/")[2].lower() or ("" if kind in JUDGED else f"earl-{kind}")


def _of_metadata(model: Path) -> Iterator[Mapping[str, Any]]:
    entry = _object(model / "earl.json").get("verifier")
    if isinstance(entry, Mapping):
        yield entry


def _of_recipe(model: Path) -> Iterator[Mapping[str, Any]]:
    """The verifier of a GRPO recipe, and those of a weighted sum; a second one gives no rewards."""
    folder = next((f for f in (model, model.parent) if (f / "recipe.toml").is_file()), None)
    try:
        recipe = parse_toml(read_text(folder / "recipe.toml"), "recipe.toml") if folder else {}
    except EarlError:
        return
    section = recipe.get("verifier")
    if folder is None or recipe.get("stage") != "grpo" or not isinstance(section, Mapping):
        return
    parts = section.get("parts")
    for part, entry in {"": section, **(parts if isinstance(parts, Mapping) else {})}.items():
        if isinstance(entry, Mapping) and (kind := entry.get("kind")) != "sum":
            judge = entry.get("judge")
            named = judge.get("model") if isinstance(judge, Mapping) else None
            yield {"kind": kind, "model": named or (_answered(folder, part) if kind in JUDGED else None)}


def _answered(folder: Path, part: str) -> str:
    """The model that answered for a judge without a named one, as the run noted it: "MODEL", or for the
    verifiers of a sum "WEIGHT x PART (MODEL) + …"."""
    starts = _object(folder / "run.json").get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else {}
    said = str(last.get("verifier") or "") if isinstance(last, Mapping) else ""
    if not part:
        return said
    match = re.search(rf" x {re.escape(part)} \(([^()]+)\)", said)
    return match[1] if match else ""


def _object(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)
    except EarlError:
        return {}
