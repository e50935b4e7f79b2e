"""Parts of a policy's layers compiled for training: norms, gates, and the softmax of attention.

What lies between a layer's matrix products is done element by element, each operation a pass through
memory. `torch.compile` makes one pass of each group. Only these are compiled and not the whole policy:
lengths change at every update, and matrix products are no faster for it.

Axes: B sequences, H heads, G heads of keys and values, T tokens of queries, S of keys, D channels of a head.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.emu3.modeling_emu3 import Emu3MLP, Emu3RMSNorm

from earl.policy.likelihood import policy_of

NAME = "earl_compiled"


def compile_parts(policy: Any) -> None:
    """Let a policy compute its norms, gates and attention by compiled parts; values differ by rounding.

    The first updates take half a minute more, and a C++ compiler (on a GPU: Triton) must be there.
    """
    model = policy_of(policy)
    for module in model.modules():
        if isinstance(module, Emu3RMSNorm):
            vars(module)["forward"] = types.MethodType(_norm, module)
        elif isinstance(module, Emu3MLP):
            vars(module)["forward"] = types.MethodType(_mlp, module)
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    model.config._attn_implementation = NAME


@torch.compile(dynamic=True)
def _normed(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = hidden.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(hidden.dtype)


@torch.compile(dynamic=True)
def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return nn.functional.silu(gate) * up


@torch.compile(dynamic=True)
def _softmax(scores_BGXTS: Tensor, mask_B11TS: Tensor, scaling: float) -> Tensor:
    probabilities = torch.softmax(scores_BGXTS.float() * scaling + mask_B11TS.float(), dim=-1)
    return probabilities.to(scores_BGXTS.dtype)


def _norm(self: Any, hidden: Tensor) -> Tensor:
    return _normed(hidden, self.weight, self.variance_epsilon)


def _mlp(self: Any, hidden: Tensor) -> Tensor:
    out: Tensor = self.down_proj(_gated(self.gate_proj(hidden), self.up_proj(hidden)))
    return out


def _attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BGSD: Tensor,
    value_BGSD: Tensor,
    attention_mask: Tensor,
    scaling: float,
    dropout: float = 0.0,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """Attention without repeated keys: the heads that share keys are rows of one product."""
    B, H, T, D = query_BHTD.shape
    G, S = key_BGSD.shape[1:3]
    rows_BGRD = query_BHTD.reshape(B, G, H // G * T, D)
    scores = (rows_BGRD @ key_BGSD.transpose(2, 3)).view(B, G, H // G, T, S)
    weights = _softmax(scores, attention_mask[..., :S].unsqueeze(1), scaling)
    if module.training and dropout:
        weights = nn.functional.dropout(weights, dropout)
    out_BHTD = (weights.view(B, G, H // G * T, S) @ value_BGSD).view(B, H, T, D)
    return out_BHTD.transpose(1, 2).contiguous(), None
