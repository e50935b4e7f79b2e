"""New vision tokenizers: the stock class with random weights, initialised to learn quickly."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import nn
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from earl.config.settings import Steps
from earl.vision.parts import Narrow, VisionConfig


class NewVisionConfig(VisionConfig):
    """Widths of a new tokenizer, small unless told; `latent_channels` and `hidden_size` follow."""

    model_config = ConfigDict(extra="forbid")
    base_channels: int = Field(default=32, ge=32, le=4096, multiple_of=32)  # of the group norms' 32 groups
    channel_multiplier: tuple[Narrow, ...] = Field(
        default=(1, 1, 2, 4), min_length=1, max_length=8, strict=False
    )
    num_res_blocks: int = Field(default=1, ge=1, le=32)
    attn_resolutions: tuple[Steps, ...] = Field(default=(), max_length=64, strict=False)  # the middle has it
    codebook_size: int = Field(default=512, ge=1, le=2**20)
    temporal_downsample_factor: Narrow = 1


def create_vision_tokenizer(seed: int = 0, **overrides: Any) -> Emu3VQVAE:
    """A new model with weights drawn from `seed`, in eval mode, float32, ready to be taught.

    Besides the stock initialisation each residual branch starts near zero and each spatial
    norm starts as a plain group norm, which makes early learning faster.

    Args:
        seed: of the weights; the global random state is left as it was.
        overrides: of `NewVisionConfig`.

    Raises:
        ConfigError: an unknown name, or widths that the class cannot have.
    """
    config = NewVisionConfig(**overrides)
    config = config.replace(latent_channels=config.embed_dim, hidden_size=config.top)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Emu3VQVAE(Emu3VQVAEConfig(**config.model_dump()))
    for module in model.modules():
        _gentle_start(module)
    model.eval()
    return model


@torch.no_grad()
def _gentle_start(module: Any) -> None:
    """Spatial norms begin as plain group norms, residual branches near zero."""
    if hasattr(module, "conv_y") and hasattr(module, "conv_b"):
        nn.init.ones_(module.conv_y.bias)
        nn.init.zeros_(module.conv_b.bias)
        module.conv_y.weight.mul_(0.3)
    if hasattr(module, "conv1") and hasattr(module, "conv2"):
        last = getattr(module.conv2, "conv", module.conv2)
        last.weight.mul_(0.1)
        last.bias.zero_()
