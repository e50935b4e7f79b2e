"""A world small enough for tests: 32 px images, codes that are mean colours, verifiers of one line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earl.config.recipe import check
from earl.config.stages import GrpoRecipe
from earl.records import Attempt, Verdict
from earl.training.grpo.train import train_grpo
from earl.training.loop import RunResult
from stage_runs import MeanColour, records

__all__ = ["Bright", "Flaky", "Hanging", "MeanColour", "make_recipe", "recipe_table", "records", "train"]


class Bright:
    """The brighter the edited image, the better; its darkest channel counts as artifacts."""

    def __init__(self) -> None:
        self.calls = 0

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        self.calls += 1
        return [self.verdict(attempt) for attempt in attempts]

    def verdict(self, attempt: Attempt) -> Verdict:
        mean = np.asarray(attempt.edited).mean((0, 1)) / 25.5
        return Verdict("ok", float(mean.mean()), 10.0, 10.0, float(mean.mean()))


class Flaky(Bright):
    """Fails where `fails(number of the attempt)` says so, with a status."""

    def __init__(self, fails, status: str = "unreachable") -> None:
        super().__init__()
        self.fails, self.status, self.seen = fails, status, 0

    def verdict(self, attempt: Attempt) -> Verdict:
        self.seen += 1
        if self.fails(self.seen):
            return Verdict(self.status, raw="HTTP 503")
        return super().verdict(attempt)


class Hanging(Bright):
    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        await asyncio.sleep(60)
        return await super().judge(attempts)


def recipe_table(room: Path, folder: Path) -> dict[str, Any]:
    """Six steps of 4 prompts x 4 rollouts, float32."""
    return {
        "stage": "grpo",
        "run": {"folder": str(folder), "device": "cpu", "tracker": "none", "log_every": 1, "threads": 1},
        "length": {"max_steps": 6},
        "batch": {"global_size": 16, "micro_size": 8},
        "optimiser": {"learning_rate": 3e-3, "betas": [0.9, 0.999], "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "precision": {"compute": "float32"},
        "checkpoint": {"every": 2, "keep": 5},
        "model": {"start": str(room / "model")},
        "rollouts": {"group": 4},
        "verifier": {"kind": "scene"},
        "prompts": {"origin": "world"},
        "judging": {"wait": 0.0, "retries": 2},
        "heldout": {"prompts": 0},
    }


def make_recipe(table: dict[str, Any]) -> GrpoRecipe:
    return check(GrpoRecipe, table)


def train(table: dict[str, Any], verifier: Any = None, **more: Any) -> RunResult:
    return train_grpo(make_recipe(table), verifier or Bright(), vision=MeanColour(), **more)
