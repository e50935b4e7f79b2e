"""A trained policy as a model folder that every command can load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from earl import __version__
from earl.config.stages import TrainingRecipe
from earl.files import new_folder, write_json
from earl.models.weight_files import copy_files
from earl.policy import policy_of, save_policy
from earl.training.assemble import Parts

FORMAT = 1


def save_model(
    parts: Parts,
    folder: str | Path,
    recipe: TrainingRecipe,
    *,
    step: int,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `policy/`, the text tokenizer, `vision/` and `earl.json`.

    A LoRA adapter is written as `adapter/`, which names its base; the rest is the base's own. Each part
    is whole or as it was before; `earl.json`, which makes the folder a model, comes last.

    Args:
        weights: of the policy, gathered, where its own are spread over ranks.

    Raises:
        OutputError: the disk is full or not writable.
    """
    folder = Path(folder)
    adapter = hasattr(parts.policy, "peft_config")
    save_policy(parts.policy, folder / ("adapter" if adapter else "policy"), state_dict=weights)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "vocabulary": parts.tokenizer.vocabulary.to_dict(),
        "origin": {"earl": __version__, "title": recipe.title, "step": step, "seed": recipe.run.seed},
        "parameters": sum(p.numel() for p in policy_of(parts.policy).parameters()),
    }
    if parts.area is not None:
        meta["area"] = parts.area
    if parts.temperature != 1:
        meta["temperature"] = parts.temperature
    parts.tokenizer.save(folder)
    if parts.vision_path is not None:
        with new_folder(folder / "vision") as fresh:
            copy_files(Path(parts.vision_path), fresh)
    write_json(folder / "earl.json", meta)
    return folder
