"""The numbers that decoding needs, read out of a `transformers.Emu3ForCausalLM`.

Small models are copied with their projections joined (fewer, larger matrix products) and in the
dtype wanted; a large model that already has the dtype is read in place, without a copy. LoRA
updates are merged into the copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

JOIN_BELOW = 400_000_000  # parameters; joined copies of more would cost memory that matters
Projection = tuple[tuple[Tensor, Tensor | None], ...]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; a projection is one joined matrix or several to apply in turn."""

    norm1: Tensor
    qkv: Projection
    out: Projection
    norm2: Tensor
    gate_up: Projection
    down: Projection


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole policy on one device; matrices in one dtype, norms in the dtype of the residual stream."""

    layers: tuple[LayerWeights, ...]
    embedding: Tensor
    norm: Tensor
    head: Tensor


@torch.no_grad()
def read_weights(policy: Any, dtype: torch.dtype, stream: torch.dtype) -> Weights:
    """Read the weights as they are now; call again after they were trained.

    Args:
        dtype: of the matrices.
        stream: of what flows between them.
    """
    head = policy.lm_head.weight
    small = sum(parameter.numel() for parameter in policy.parameters()) < JOIN_BELOW
    layers = []
    for layer in policy.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        layers.append(
            LayerWeights(
                norm1=layer.input_layernorm.weight.detach().to(stream),
                qkv=_projection((attention.q_proj, attention.k_proj, attention.v_proj), dtype, small),
                out=_projection((attention.o_proj,), dtype, small),
                norm2=layer.post_attention_layernorm.weight.detach().to(stream),
                gate_up=_projection((mlp.gate_proj, mlp.up_proj), dtype, small),
                down=_projection((mlp.down_proj,), dtype, small),
            )
        )
    return Weights(
        layers=tuple(layers),
        embedding=policy.model.embed_tokens.weight.detach(),
        norm=policy.model.norm.weight.detach().to(stream),
        head=head.detach().to(dtype),
    )


def _projection(linears: tuple[nn.Module, ...], dtype: torch.dtype, join: bool) -> Projection:
    read = [_effective(linear, dtype) for linear in linears]
    if not join or len(read) == 1:
        return tuple(read)
    biases = [bias for _, bias in read if bias is not None]
    weight = torch.cat([weight for weight, _ in read])
    return ((weight, torch.cat(biases) if biases else None),)


def _effective(linear: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a plain linear, or of one with an active LoRA update merged in."""
    base = linear.get_base_layer() if hasattr(linear, "get_base_layer") else linear
    weight = base.weight.detach()
    if base is not linear and not linear.merged and not linear.disable_adapters:
        for name in linear.active_adapters:
            if name in linear.lora_A:
                weight = weight.float() + linear.get_delta_weight(name).float()
    bias = base.bias
    return weight.to(dtype), None if bias is None else bias.detach().to(dtype)
