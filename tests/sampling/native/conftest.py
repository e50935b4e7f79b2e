import numpy as np
import pytest
import torch

from earl.policy.loading import create_policy
from earl.records import Grid
from earl.sequence.layout import write_prompt
from earl.sequence.trained import train_text_tokenizer

TEXTS = ["make the cube red", "add a green ball", "remove the cone", "4*6 3*3 12*1"]


@pytest.fixture(scope="session")
def tokenizer():
    return train_text_tokenizer(TEXTS, size=280, codebook_size=64)


@pytest.fixture(scope="session")
def policy(tokenizer):
    """Random weights, loud enough that choices are clear-cut, and BOI and IMG likely where text is due."""
    model = create_policy(
        {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3},
        tokenizer.vocabulary,
        seed=1,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)
    return model


@pytest.fixture(scope="session")
def prompt_of(tokenizer):
    def make(number: int, grid: Grid = Grid(2, 3)) -> tuple[int, ...]:  # noqa: B008 (frozen)
        rng = np.random.default_rng(number)
        codes = rng.integers(0, 64, (grid.height, grid.width))
        return tuple(write_prompt(codes, TEXTS[number % 3] + " now" * (number % 4), tokenizer))

    return make
