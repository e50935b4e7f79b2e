"""Layers of an `Emu3VQVAE` by its names, in plain torch, without importing transformers.

Importing transformers' class takes longer than editing an image. What runs here reads a model's layers
only (`still.py`), so a tokenizer that was loaded is made of these, and of the stock class where somebody
asks for that (`VisionTokenizer.model`). Names, shapes and widths are the stock class's own.

Source: `transformers` models/emu3, for names and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from torch import nn

from earl.config.settings import Count, Settings, Steps

GROUPS, NORM_EPS = 32, 1e-6


Narrow = Annotated[int, Field(ge=1, le=64)]


class VisionConfig(Settings):
    """Widths of a vision tokenizer, by the names and defaults of `Emu3VQVAEConfig`; ignores other keys.

    Raises:
        ConfigError: a width that is no number, or none that a model can have.
    """

    model_config = ConfigDict(extra="ignore")

    codebook_size: int = Field(default=32_768, ge=1, le=2**20)
    embed_dim: Narrow = 4
    latent_channels: Narrow = 4
    double_latent: bool = False
    in_channels: Narrow = 3
    out_channels: Narrow = 3
    temporal_downsample_factor: Narrow = 4
    base_channels: int = Field(default=256, ge=1, le=4096)
    channel_multiplier: tuple[Narrow, ...] = Field(
        default=(1, 2, 2, 4), min_length=1, max_length=8, strict=False
    )
    num_res_blocks: int = Field(default=2, ge=1, le=32)
    attn_resolutions: tuple[Steps, ...] = Field(default=(3,), max_length=64, strict=False)
    hidden_size: Count = 1024
    num_attention_heads: Narrow = 1

    def problems(self) -> Iterator[str]:
        factor = self.temporal_downsample_factor
        if factor & (factor - 1):
            yield f"temporal_downsample_factor is {factor}, expected a power of two"

    @property
    def top(self) -> int:
        """Channels of the narrowest level."""
        return self.base_channels * self.channel_multiplier[-1]


class VisionParts(nn.Module):
    """All layers of an `Emu3VQVAE`, by its names, without a forward pass of their own.

    `state_dict()` has the keys and shapes of the stock class's. Weights are uninitialised.

    Raises:
        ValueError: widths that do not divide.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        self.config = config
        self.spatial_scale_factor = 2 ** (len(config.channel_multiplier) - 1)
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        self.quantize: Any
        # drawn at random, on the meta device, it would import torch._dynamo
        codes = torch.empty(config.codebook_size, config.embed_dim)
        self.quantize = _named(embedding=nn.Embedding.from_pretrained(codes, freeze=False))
        self.quant_conv = _causal(config.latent_channels, config.embed_dim, (3, 1, 1))
        self.post_quant_conv = _causal(config.embed_dim, config.latent_channels, (3, 1, 1))
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.quantize.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.quantize.embedding.weight.dtype


def _named(**parts: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def _conv(inner: int, outer: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, size, stride=stride, padding=size // 2 if stride == 1 else 0)


def _causal(inner: int, outer: int, size: tuple[int, int, int], stride: int = 1) -> nn.Module:
    return _named(conv=nn.Conv3d(inner, outer, size, stride=(stride, 1, 1)))


def _norm(channels: int, codes: int | None) -> nn.Module:
    """A group norm; with `codes`, one that the code vectors scale and shift."""
    norm = nn.GroupNorm(GROUPS, channels, eps=NORM_EPS)
    if codes is None:
        return norm
    return _named(norm_layer=norm, conv_y=_conv(codes, channels, 1), conv_b=_conv(codes, channels, 1))


class ResnetParts(nn.Module):
    """Two norms and two convolutions; a shortcut where the width changes."""

    def __init__(self, inner: int, outer: int, codes: int | None) -> None:
        super().__init__()
        self.in_channels, self.out_channels = inner, outer
        self.norm1, self.conv1 = _norm(inner, codes), _conv(inner, outer)
        self.norm2, self.conv2 = _norm(outer, codes), _conv(outer, outer)
        if inner != outer:
            self.nin_shortcut = _conv(inner, outer, 1)


class TemporalParts(nn.Module):
    """The same over frames, with batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = channels
        self.norm1, self.conv1 = nn.BatchNorm3d(channels), _causal(channels, channels, (3, 3, 3))
        self.norm2, self.conv2 = nn.BatchNorm3d(channels), _causal(channels, channels, (3, 3, 3))


class AttentionParts(nn.Module):
    """Four matrices of self-attention over cells."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(config.hidden_size, config.hidden_size))


def _middle(config: VisionConfig, codes: int | None) -> nn.Module:
    top = config.top
    return _named(
        block_1=ResnetParts(top, top, codes),
        attn_1=AttentionParts(config),
        attn_norm=_norm(top, codes),
        block_2=ResnetParts(top, top, codes),
    )


def _level(config: VisionConfig, index: int, inner: int, blocks: int, codes: int | None) -> nn.Module:
    outer = config.base_channels * config.channel_multiplier[index]
    attends = index in config.attn_resolutions
    return _named(
        block=nn.ModuleList(ResnetParts(inner if i == 0 else outer, outer, codes) for i in range(blocks)),
        attn=nn.ModuleList(AttentionParts(config) for _ in range(blocks if attends else 0)),
        attn_norms=nn.ModuleList(_norm(outer, codes) for _ in range(blocks if attends else 0)),
    )


def _encoder(config: VisionConfig) -> nn.Module:
    latent = config.latent_channels * (2 if config.double_latent else 1)
    widths = [config.base_channels * times for times in config.channel_multiplier]
    down = nn.ModuleList()
    for index, outer in enumerate(widths):
        inner = widths[index - 1] if index else config.base_channels
        level = _level(config, index, inner, config.num_res_blocks, None)
        if index < len(widths) - 1:
            level.add_module("downsample", _named(conv=_conv(outer, outer, stride=2)))
        down.append(level)
    return _named(
        conv_in=_conv(config.in_channels, config.base_channels),
        down_block=_named(down=down),
        middle_block=_middle(config, None),
        norm_out=_norm(config.top, None),
        conv_out=_conv(config.top, latent),
        time_conv=nn.ModuleList(
            _named(conv=_causal(latent, latent, (4, 3, 3), stride=2)) for _ in range(_halvings(config))
        ),
        time_res_stack=nn.ModuleList(TemporalParts(latent) for _ in range(config.num_res_blocks)),
    )


def _decoder(config: VisionConfig) -> nn.Module:
    latent, codes = config.latent_channels, config.embed_dim
    widths = [config.base_channels * times for times in config.channel_multiplier]
    up: list[nn.Module] = []
    for index, outer in enumerate(widths):
        inner = widths[min(index + 1, len(widths) - 1)]
        level = _level(config, index, inner, config.num_res_blocks + 1, codes)
        if index:
            level.add_module("upsample", _named(conv=_conv(outer, outer)))
        up.append(level)
    return _named(
        time_res_stack=nn.ModuleList(TemporalParts(latent) for _ in range(config.num_res_blocks)),
        time_conv=nn.ModuleList(
            _named(conv=_causal(latent, latent, (3, 3, 3))) for _ in range(_halvings(config))
        ),
        conv_in=_conv(latent, config.top),
        middle_block=_middle(config, codes),
        up_block=_named(up=nn.ModuleList(up)),
        norm_out=_norm(widths[0], codes),
        conv_out=_conv(widths[0], config.out_channels),
    )


def _halvings(config: VisionConfig) -> int:
    return int(math.log2(config.temporal_downsample_factor))
