"""A tiny room: 32 px world shards with codes from mean colours, a text tokenizer, a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from earl.config.recipe import check
from earl.config.stages import STAGES
from earl.sequence.trained import train_text_tokenizer
from earl.training.sft.train import train_sft
from earl.world.shards import WorldData, prepare_world
from earl.world.tasks import all_texts
from stage_runs import MeanColour


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room")
    prepare_world(folder / "train", MeanColour(), WorldData(sources=40, resolution=32))
    prepare_world(
        folder / "validation", MeanColour(), WorldData(sources=6, resolution=32, split="validation")
    )
    texts = all_texts(np.random.default_rng(0), 300)
    train_text_tokenizer(texts, size=400, codebook_size=64).save(folder / "text")
    return folder


def recipe_table(room: Path, folder: Path) -> dict[str, Any]:
    """A recipe of six updates of eight sequences, float32, in nested tables."""
    return {
        "stage": "sft",
        "run": {"folder": str(folder), "device": "cpu", "tracker": "none", "log_every": 1, "threads": 1},
        "length": {"max_steps": 6},
        "batch": {"global_size": 8, "micro_size": 4},
        "optimiser": {"learning_rate": 1e-3},
        "schedule": {"name": "constant"},
        "precision": {"compute": "float32"},
        "checkpoint": {"every": 2, "keep": 5},
        "model": {"size": "tiny", "text_tokenizer": str(room / "text")},
        "data": {"sources": {"world": {"path": str(room / "train")}}},
    }


def make_recipe(table: dict[str, Any]) -> Any:
    return check(STAGES[table["stage"]], table)


@pytest.fixture(scope="session")
def plain_run(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six updates of the standard table, uninterrupted, on one rank."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train_sft(make_recipe(recipe_table(room, folder)))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
