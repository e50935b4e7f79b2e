"""A model folder with random weights and no vision tokenizer, and shards of a few edits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from earl.policy.loading import create_policy
from earl.policy.saving import save_policy
from earl.sequence.trained import train_text_tokenizer
from earl.world.shards import WorldData, prepare_world
from earl.world.tasks import all_texts

from .tiny import MeanColour


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo")
    tokenizer = train_text_tokenizer(all_texts(np.random.default_rng(0), 200), size=400, codebook_size=64)
    model = folder / "model"
    save_policy(create_policy("tiny", tokenizer.vocabulary, seed=0), model / "policy")
    tokenizer.save(model)
    meta = {"format": 1, "vocabulary": tokenizer.vocabulary.to_dict(), "origin": "a test"}
    (model / "earl.json").write_text(json.dumps(meta), encoding="utf-8")
    prepare_world(folder / "shards", MeanColour(), WorldData(sources=8, resolution=32))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
