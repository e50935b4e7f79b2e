"""Weights for decoding, read out of a `transformers.Emu3ForCausalLM`.

Small models are copied: query, key and value projections joined, in the dtype wanted, packed for
the CPU where that helps. A large model that already has the dtype is read in place, without a copy.
LoRA updates are merged into copies of the matrices they touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from earl.policy.quantised import QuantisedLinear, is_quantised
from earl.sampling.native.matrix import LayerMatrix, Matrix, PackedMatrix, PlainMatrix, can_pack

COPY_BELOW = 400_000_000  # parameters; copies of more would cost memory that matters


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; `qkv` is one joined matrix or three to apply in turn."""

    norm1: Tensor
    qkv: tuple[Matrix, ...]
    out: Matrix
    norm2: Tensor
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole policy; matrices in one dtype, norms in the dtype of the residual stream."""

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
    quantised = has_quantised(policy)  # used as stored, never copied or packed
    small = not quantised and sum(parameter.numel() for parameter in policy.parameters()) < COPY_BELOW
    pack = small and on_cpu(policy) and can_pack(dtype)

    def matrix(*linears: Any) -> Matrix:
        if isinstance(linears[0], QuantisedLinear):
            return LayerMatrix(linears[0])
        read = [effective_weight(linear, dtype) for linear in linears]
        weight, bias = read[0]
        if len(read) > 1:
            weight = torch.cat([weight for weight, _ in read])
            biases = [bias for _, bias in read if bias is not None]
            bias = torch.cat(biases) if biases else None
        return PackedMatrix(weight, bias) if pack else PlainMatrix(weight, bias)

    layers = []
    for layer in policy.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        layers.append(
            LayerWeights(
                norm1=layer.input_layernorm.weight.detach().to(stream),
                qkv=(matrix(*three),) if small else tuple(matrix(each) for each in three),
                out=matrix(attention.o_proj),
                norm2=layer.post_attention_layernorm.weight.detach().to(stream),
                gate=matrix(mlp.gate_proj),
                up=matrix(mlp.up_proj),
                down=matrix(mlp.down_proj),
            )
        )
    return Weights(
        layers=tuple(layers),
        embedding=policy.model.embed_tokens.weight.detach(),
        norm=policy.model.norm.weight.detach().to(stream),
        head=policy.lm_head.weight.detach().to(dtype),
    )


def has_quantised(policy: Any) -> bool:
    """Whether matrices of the layers are quantised; they are in all layers alike."""
    layer = policy.model.layers[0]
    return any(hasattr(part, "weight") and is_quantised(part) for part in layer.modules())


def on_cpu(policy: Any) -> bool:
    """Whether a policy lies on the CPU."""
    return bool(policy.lm_head.weight.device.type == "cpu")


def effective_weight(linear: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a plain linear, or of one with an active LoRA update merged in."""
    base = linear.get_base_layer() if hasattr(linear, "get_base_layer") else linear
    if is_quantised(base):
        return base.weight, base.bias
    weight = base.weight.detach()
    if base is not linear and not linear.merged and not linear.disable_adapters:
        for name in linear.active_adapters:
            if name in linear.lora_A:
                weight = weight.float() + linear.get_delta_weight(name).float()
    bias = base.bias
    return weight.to(dtype), None if bias is None else bias.detach().to(dtype)
