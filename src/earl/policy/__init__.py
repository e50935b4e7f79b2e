"""The policy: `transformers.Emu3ForCausalLM` loaded, saved, made from scratch, adapted and scored.

Names are loaded on first use: what samples from stored weights does not import transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.policy.adapters import TARGETS, add_lora, attach_adapter, merged, save_adapter
    from earl.policy.configs import SIZES
    from earl.policy.likelihood import (
        Kin,
        Scorer,
        logprobs_from_hidden,
        policy_of,
        recompute_activations,
        token_logprobs,
    )
    from earl.policy.loading import create_policy, load_policy, warm_start_visual
    from earl.policy.plain import token_logprobs_plain
    from earl.policy.quantised import quantise
    from earl.policy.saving import save_policy
    from earl.policy.shared import branched_hidden_states, shared_hidden_states
    from earl.policy.stored import open_policy

_HOMES = {
    "Kin": "likelihood",
    "SIZES": "configs",
    "Scorer": "likelihood",
    "TARGETS": "adapters",
    "add_lora": "adapters",
    "attach_adapter": "adapters",
    "branched_hidden_states": "shared",
    "create_policy": "loading",
    "load_policy": "loading",
    "logprobs_from_hidden": "likelihood",
    "merged": "adapters",
    "open_policy": "stored",
    "policy_of": "likelihood",
    "quantise": "quantised",
    "recompute_activations": "likelihood",
    "save_adapter": "adapters",
    "save_policy": "saving",
    "shared_hidden_states": "shared",
    "token_logprobs": "likelihood",
    "token_logprobs_plain": "plain",
    "warm_start_visual": "loading",
}

__all__ = [
    "SIZES",
    "TARGETS",
    "Kin",
    "Scorer",
    "add_lora",
    "attach_adapter",
    "branched_hidden_states",
    "create_policy",
    "load_policy",
    "logprobs_from_hidden",
    "merged",
    "open_policy",
    "policy_of",
    "quantise",
    "recompute_activations",
    "save_adapter",
    "save_policy",
    "shared_hidden_states",
    "token_logprobs",
    "token_logprobs_plain",
    "warm_start_visual",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"earl.policy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'earl.policy' has no attribute {name!r}")
