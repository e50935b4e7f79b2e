"""Probes for comparing two model folders: logits, codes, pixels and ids of fixed inputs.

Axes: T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from earl.sequence.tokenizer import TextTokenizer
from earl.vision.tokenizer import VisionTokenizer

TOKENS = 48
SENTENCES = (
    "make the man's hat red, don't touch the dog's collar",
    "<|image start|>32*32<|image token|><|visual token 000000|><|extra_204|>",
    "把背景换成夜晚  é 1234\r\n\t<|endoftext|>",
    " Let's think step by step. <|start thinking|> the cube <|end thinking|>",
)


@torch.no_grad()
def probe_logits(policy: Any) -> Tensor:
    """Logits of one fixed random sequence, float32 (T, V)."""
    rows = policy.config.vocab_size
    ids = torch.randint(0, rows, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    out = policy(input_ids=ids.to(policy.lm_head.weight.device), use_cache=False)
    return out.logits[0].float().cpu()


@torch.no_grad()
def products(matrix: Any, width: int) -> Tensor:
    """A linear layer's products of fixed random inputs of this width, float32."""
    x_2C = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
    weight = matrix.weight
    return matrix(x_2C.to(weight) if weight.is_floating_point() else x_2C).float().cpu()


def adapted_products(policy: Any) -> dict[str, Tensor]:
    """`products` of the matrices that an adapter changes, by their names in the policy without it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [pair for pair in policy.get_base_model().named_modules() if isinstance(pair[1], BaseTunerLayer)]
    return {name: products(layer, layer.in_features) for name, layer in layers}


def relative_difference(before: Tensor, after: Tensor) -> float:
    """The norm of the difference, relative to the first's."""
    return float((before - after).norm() / before.norm().clamp_min(1e-12))


@torch.no_grad()
def probe_vision(tokenizer: VisionTokenizer) -> tuple[Tensor, Tensor]:
    """Codes of two fixed images, (2, 8, 8), and the pixels that they decode to, (2, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    pixels = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(-1, 1)
    pixels = pixels.to(tokenizer.device)
    codes = tokenizer.encode_pixels(pixels)
    return codes.cpu(), tokenizer.decode_codes(codes).float().cpu()


def probe_text(tokenizer: TextTokenizer) -> list[list[int]]:
    """Ids of fixed sentences. Some spell special tokens, which must be encoded as ordinary text.

    Raises:
        AssertionError: an id that is not ordinary text (`TextTokenizer` promises there is none).
    """
    found = [tokenizer.encode(sentence) for sentence in SENTENCES]
    assert all(token < tokenizer.vocabulary.first_special for ids in found for token in ids)
    return found


def largest_difference(before: Tensor, after: Tensor) -> float:
    """The largest absolute difference, 0.0 where both are equal bit for bit."""
    if before.shape != after.shape:
        return float("inf")
    return float(np.abs(before.double().numpy() - after.double().numpy()).max())
