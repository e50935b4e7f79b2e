"""A world small enough for tests: 32 px pictures, codes that are mean colours, verifiers of one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earl.config.recipe import check
from earl.config.stages import GrpoRecipe
from earl.records import Attempt, Verdict


class MeanColour:
    """Codes of 64: two bits of each channel's mean over a cell."""

    codebook_size = 64
    area = 32 * 32

    def encode(self, images: Sequence[Any], resize: bool = True) -> list[np.ndarray]:
        codes = []
        for image in images:
            rows, columns = image.height // 8, image.width // 8
            mean = np.asarray(image).reshape(rows, 8, columns, 8, 3).mean((1, 3)).astype(int) // 64
            codes.append((mean @ [16, 4, 1]).astype(np.int32))
        return codes

    def decode(self, codes: Sequence[np.ndarray]) -> list[Image.Image]:
        pictures = []
        for grid in codes:
            levels = np.stack([grid // 16, grid // 4 % 4, grid % 4], axis=-1) * 64 + 32
            pictures.append(Image.fromarray(levels.repeat(8, 0).repeat(8, 1).astype(np.uint8)))
        return pictures

    def fingerprint(self) -> str:
        return "mean colour"


class Bright:
    """The brighter the edited picture, the better; its darkest channel counts as artifacts."""

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
        "length": {"steps": 6},
        "batch": {"sequences": 16, "micro": 8},
        "optimiser": {"learning_rate": 3e-3, "betas": [0.9, 0.999], "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "precision": {"compute": "float32"},
        "checkpoint": {"every": 2, "keep": 5},
        "model": {"start": str(room / "model")},
        "rollouts": {"group": 4},
        "judging": {"wait": 0.0, "retries": 2},
        "heldout": {"prompts": 0},
    }


def make_recipe(table: dict[str, Any]) -> GrpoRecipe:
    return check(GrpoRecipe, table)


def records(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]
