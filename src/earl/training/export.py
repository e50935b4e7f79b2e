"""A trained policy as a model folder that every command can load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from earl import __version__
from earl.config.stages import TrainingRecipe
from earl.errors import CheckpointError
from earl.policy import policy_of, replace_folder, save_policy
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
        CheckpointError: the disk is full or not writable.
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
    try:
        parts.tokenizer.save(folder)
        if parts.vision_path is not None:
            vision = parts.vision_path
            replace_folder(folder / "vision", lambda into: shutil.copytree(vision, into, dirs_exist_ok=True))
        beside = folder / f".earl.json.{os.getpid()}.tmp"
        try:
            beside.write_text(json.dumps(meta, indent=1), encoding="utf-8")
            os.replace(beside, folder / "earl.json")
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the model in {folder} could not be written: {error}; the run's checkpoints are intact. "
            "Free some space and start the same command again to write it."
        ) from error
    return folder
