"""New vision tokenizers: the stock class with random weights, initialised to learn quickly."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from earl.errors import ConfigError

SMALL: dict[str, Any] = {
    "base_channels": 32,  # the least that 32 groups allow
    "channel_multiplier": (1, 1, 2, 4),
    "num_res_blocks": 1,
    "attn_resolutions": (),  # the middle block has attention anyway
    "embed_dim": 4,
    "codebook_size": 512,
    "temporal_downsample_factor": 1,
}


def vision_config(**overrides: Any) -> Emu3VQVAEConfig:
    """A configuration: `SMALL` with `overrides`; `hidden_size` and `latent_channels` follow.

    Args:
        overrides: fields of `Emu3VQVAEConfig`. `latent_channels` equals `embed_dim` always: the
            decoder runs both through the same convolutions.

    Raises:
        ConfigError: an unknown field, or widths that the class cannot have.
    """
    known = set(inspect.signature(Emu3VQVAEConfig).parameters)
    for name in overrides:
        if name not in known:
            raise ConfigError(
                f"a vision tokenizer has no setting {name!r}; known: {', '.join(sorted(SMALL))}"
            )
    fields = {**SMALL, **overrides}
    if fields.setdefault("latent_channels", fields["embed_dim"]) != fields["embed_dim"]:
        raise ConfigError(
            f"latent_channels ({fields['latent_channels']}) must equal embed_dim ({fields['embed_dim']}): "
            "the decoder runs both through the same convolutions"
        )
    if fields["base_channels"] % 32:
        raise ConfigError(
            f"base_channels must be a multiple of 32 (group norm), got {fields['base_channels']}"
        )
    factor = fields["temporal_downsample_factor"]
    if factor < 1 or factor & (factor - 1):
        raise ConfigError(f"temporal_downsample_factor must be a power of two, got {factor}")
    fields["channel_multiplier"] = list(fields["channel_multiplier"])
    fields["attn_resolutions"] = list(fields["attn_resolutions"])
    fields["hidden_size"] = fields["base_channels"] * fields["channel_multiplier"][-1]
    return Emu3VQVAEConfig(**fields)


def create_vision_tokenizer(seed: int = 0, **overrides: Any) -> Emu3VQVAE:
    """A new model with weights drawn from `seed`, in eval mode, float32, ready to be taught.

    Besides the stock initialisation each residual branch starts near zero and each spatial
    norm starts as a plain group norm, which makes early learning faster.

    Args:
        seed: of the weights; the global random state is left as it was.
        overrides: see `vision_config`.

    Returns:
        transformers.Emu3VQVAE.
    """
    config = vision_config(**overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Emu3VQVAE(config)
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
