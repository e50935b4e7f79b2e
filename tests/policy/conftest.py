from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

VECTORS = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors" / "lm"


@dataclass(frozen=True)
class Ids:
    """As earl.sequence.Vocabulary, the part that the policy reads."""

    size: int
    first_visual: int
    codebook_size: int
    pad: int
    bos: int
    eos: int


@pytest.fixture
def vectors() -> Path:
    return VECTORS


@pytest.fixture
def ids() -> Ids:
    return Ids(size=153, first_visual=100, codebook_size=50, pad=90, bos=91, eos=92)


@pytest.fixture
def random_batch():
    return _random_batch


def _random_batch(ids: Ids, seed: int, batch: int = 3, length: int = 17):
    """Token ids, a mask with padding on either side, and kinds that fit the ids."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 3, (batch, length), generator=generator)
    text = torch.randint(0, ids.first_visual, (batch, length), generator=generator)
    visual = torch.randint(
        ids.first_visual, ids.first_visual + ids.codebook_size, (batch, length), generator=generator
    )
    tokens = torch.where(kinds == 2, visual, text)
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[0, :4] = False
    mask[1, -5:] = False
    kinds[0, :5] = 0
    kinds[:, 0] = 0
    kinds = torch.where(mask, kinds, 0)
    return tokens, mask, kinds.to(torch.int8)
