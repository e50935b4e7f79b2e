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
        NeighbourSmoothing,
        Scoring,
        TokenScores,
        policy_of,
        recompute_activations,
        scores_from_hidden,
        token_logprobs,
        token_scores,
    )
    from earl.policy.loading import create_policy, load_policy, warm_start_visual
    from earl.policy.quantised import quantise
    from earl.policy.saving import save_policy, save_quantised
    from earl.policy.shared import branched_hidden_states, shared_hidden_states
    from earl.policy.stored import open_policy

_HOMES = {
    "adapters": "TARGETS add_lora attach_adapter merged save_adapter",
    "configs": "SIZES",
    "likelihood": "NeighbourSmoothing Scoring TokenScores policy_of recompute_activations "
    "scores_from_hidden token_logprobs token_scores",
    "loading": "create_policy load_policy warm_start_visual",
    "quantised": "quantise",
    "saving": "save_policy save_quantised",
    "shared": "branched_hidden_states shared_hidden_states",
    "stored": "open_policy",
}

__all__ = [
    "SIZES",
    "TARGETS",
    "NeighbourSmoothing",
    "Scoring",
    "TokenScores",
    "add_lora",
    "attach_adapter",
    "branched_hidden_states",
    "create_policy",
    "load_policy",
    "merged",
    "open_policy",
    "policy_of",
    "quantise",
    "recompute_activations",
    "save_adapter",
    "save_policy",
    "save_quantised",
    "scores_from_hidden",
    "shared_hidden_states",
    "token_logprobs",
    "token_scores",
    "warm_start_visual",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"earl.policy.{module}"), name)
    raise AttributeError(f"module 'earl.policy' has no attribute {name!r}")
