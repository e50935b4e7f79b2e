"""What a cell is trained with: the same recipes that `earl train` takes, from the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from earl.config.recipe import check
from earl.config.reproduce import Budget
from earl.config.stages import GrpoRecipe, SftRecipe
from earl.reproduce.cells import Cell

SHARDS = {"simple": ("simple",), "complex": ("complex",), "all": ("simple", "complex")}
LOOKS = 5  # validations of a run


def sft_recipe(cell: Cell, budget: Budget, *, seed: int, folder: Path, start: str, data: Path) -> SftRecipe:
    """The recipe of an SFT cell.

    Args:
        folder: of the run.
        start: the model it starts from.
        data: folder with the shards `simple`, `complex` and `validation`.
    """
    settings = budget.sft
    table = _common(cell, budget, seed, folder, settings.steps) | {
        "stage": "sft",
        "batch": {"sequences": settings.sequences, "micro": settings.micro, "share": settings.share},
        "optimiser": {
            "name": "muon",
            "learning_rate": settings.learning_rate,
            "muon_learning_rate": settings.muon_learning_rate,
            "betas": [0.9, 0.95],
            "eps": 1e-8,
            "weight_decay": 0.01,
        },
        "schedule": {"name": "cosine", "warmup_steps": settings.warmup_steps},
        "model": {"start": start},
        "data": {
            "validation": str(data / "validation"),
            "stitch": True,
            "reasoning": cell.reasoning,
            "sources": {name: {"path": str(data / name)} for name in SHARDS[cell.edits]},
        },
    }
    if settings.kinship:
        table["kinship"] = settings.kinship.model_dump()
    return check(SftRecipe, table, origin=f"cell {cell.name}")


def grpo_recipe(cell: Cell, budget: Budget, *, seed: int, folder: Path, start: str) -> GrpoRecipe:
    """The recipe of an RL cell: EARL's constants, the budget's size."""
    settings = budget.rl
    steps = round(settings.steps * (settings.scale if cell.scaled else 1))
    rollouts = settings.prompts * settings.group
    verifier: dict[str, Any] = {"kind": "scene"}
    if cell.noisy:
        verifier |= {"noise": settings.noise, "noise_seed": seed}
    if cell.blind:
        verifier["blind"] = cell.blind
    if (cell.noisy or cell.blind) and settings.heldout:
        verifier["second"] = {"kind": "scene"}  # the one that is not weakened looks on
    table = _common(cell, budget, seed, folder, steps) | {
        "stage": "grpo",
        "batch": {"sequences": rollouts, "micro": min(8, settings.prompts) * settings.group},
        "optimiser": {
            "learning_rate": settings.learning_rate,
            "betas": list(settings.betas),
            "eps": 1e-8,
            "weight_decay": 0.0,
        },
        "schedule": {"name": settings.schedule, "warmup_steps": settings.warmup_steps},
        "model": {"start": start},
        "prompts": {"origin": "world", "group": cell.edits},
        "rollouts": {
            "group": settings.group,
            "prefill": "reasoning" if cell.reasoning else "size",
            "top_k": 0,
            "decode": settings.decode,
            "max_text_tokens": settings.max_text_tokens,
        },
        "grpo": {
            "kl_coefficient": settings.kl_coefficient,
            "divide_by_std": settings.divide_by_std,
            "importance_range": settings.importance_range,
        },
        "verifier": verifier,
        "judging": {"undecodable_reward": 0.0},
        "heldout": {"prompts": settings.heldout},
        "samples": {"every": max(1, steps // LOOKS)},
    }
    if rollouts % table["batch"]["micro"]:
        table["batch"]["micro"] = settings.group
    if settings.kinship:
        table["kinship"] = settings.kinship.model_dump()
    return check(GrpoRecipe, table, origin=f"cell {cell.name}")


def _common(cell: Cell, budget: Budget, seed: int, folder: Path, steps: int) -> dict[str, Any]:
    run = {"folder": str(folder), "seed": seed, "device": budget.device, "threads": budget.threads}
    return {
        "title": f"{cell.label}, seed {seed}",
        "run": run | {"tracker": "none", "log_every": 1 if cell.kind == "grpo" else max(1, min(20, steps))},
        "length": {"steps": steps},
        "precision": {"compute": budget.compute},
        "checkpoint": {"every": min(budget.checkpoint_every, steps), "keep": 1},
        "validation": {"every": max(1, steps // LOOKS), "samples": 256},
    }
