"""Tiny random policies on disk, in the layouts that are out there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earl.policy.loading import create_policy
from earl.policy.saving import save_policy
from earl.sequence.layout import write_prompt
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.world.tasks import all_texts

SIZE = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "intermediate_size": 160,
    "max_position_embeddings": 1024,
}
CODES = 256


def make_tokenizer() -> TextTokenizer:
    return train_text_tokenizer(all_texts(np.random.default_rng(0), 200), size=400, codebook_size=CODES)


def make_policy(tokenizer: TextTokenizer, seed: int, *, tied: bool = False, loud: float = 3.0) -> Any:
    """Random weights, loud enough that a wrong one shows."""
    policy = create_policy({**SIZE, "tie_word_embeddings": tied}, tokenizer.vocabulary, seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim == 2:
                parameter.mul_(loud)
    return policy


def write_layouts(policy: Any, tokenizer: TextTokenizer, folder: Path) -> dict[str, Path]:
    """The same weights as transformers saves them and as the release has them, remote code named."""
    stock, released = folder / "transformers", folder / "released"
    save_policy(policy, stock)
    tokenizer.save(stock)
    shutil.copytree(stock, released)
    config = json.loads((stock / "config.json").read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    config |= {
        "model_type": "Emu3",
        "rope_theta": theta,
        "rope_scaling": None,
        "auto_map": {
            "AutoConfig": "configuration_emu3.Emu3Config",
            "AutoModelForCausalLM": "modeling_emu3.Emu3ForCausalLM",
        },
        "attention_dropout": 0.1,
        "torch_dtype": config.pop("dtype"),
    }
    (released / "config.json").write_text(json.dumps(config, indent=1))
    (released / "modeling_emu3.py").write_text("raise RuntimeError('remote code was run')\n")
    (released / "configuration_emu3.py").write_text("raise RuntimeError('remote code was run')\n")
    return {"transformers": stock, "released": released}


def make_prompts(tokenizer: TextTokenizer, count: int, rows: int = 5) -> list[tuple[int, ...]]:
    """Prompts of several lengths, longer than one block of the cache."""
    words = ["make the cube red", "remove the cone", "add a green ball behind it", "make it night"]
    draw = np.random.default_rng(1)
    prompts = []
    for number in range(count):
        codes = draw.integers(0, CODES, (rows + number % 3, 7))
        prompts.append(tuple(write_prompt(codes, words[number % len(words)], tokenizer)))
    return prompts
