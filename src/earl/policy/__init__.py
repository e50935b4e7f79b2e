"""The policy: `transformers.Emu3ForCausalLM` loaded, saved, made from scratch, adapted and scored."""

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
from earl.policy.saving import replace_folder, save_policy
from earl.policy.shared import branched_hidden_states, shared_hidden_states

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
    "policy_of",
    "quantise",
    "recompute_activations",
    "replace_folder",
    "save_adapter",
    "save_policy",
    "shared_hidden_states",
    "token_logprobs",
    "token_logprobs_plain",
    "warm_start_visual",
]
