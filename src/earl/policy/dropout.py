"""Dropout in a policy's training, as in the release's SFT.

Where: the embeddings, attention's probabilities and each residual branch. `transformers`' class has the
last two, with the rate of its config; likelihoods would then differ from sampling's, so `earl.policy`
loads every policy with 0, and a stage asks for more.

Source: `attention_dropout` = 0.1 in the released models' config, which their SFT keeps.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from earl.policy.likelihood import policy_of


def set_dropout(policy: Any, rate: float) -> None:
    """Make a policy drop activations while it is in training mode; once for a policy.

    Args:
        policy: an Emu3ForCausalLM, with or without a LoRA adapter.
        rate: share of activations, 0 to below 1; 0 leaves the policy as it is.
    """
    if rate == 0:
        return

    def drop(module: Any, _: Any, embedded_BTC: Tensor) -> Tensor:
        return functional.dropout(embedded_BTC, rate, module.training)

    transformer = policy_of(policy).model
    transformer.embed_tokens.register_forward_hook(drop)
    for layer in transformer.layers:
        layer.dropout.p = layer.self_attn.attention_dropout = rate
