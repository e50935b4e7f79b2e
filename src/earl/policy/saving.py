"""Saving a policy as a whole folder, or not at all.

The layout is that of transformers (`config.json`, `model.safetensors` or shards with an index), so
that stock tools read it too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import Emu3ForCausalLM

from earl.files import new_folder


def save_policy(
    model: Emu3ForCausalLM,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Save a policy; what was in the folder before is kept until the new one is complete.

    A peft model is saved as its adapter alone (see `save_adapter`).

    Args:
        model: the policy.
        folder: made or replaced as a whole.
        dtype: of the saved tensors; None keeps the model's.
        state_dict: unsharded weights, where the model's own are spread over ranks.

    Raises:
        OutputError: the disk is full or not writable; the folder is as before.
    """
    if hasattr(model, "peft_config"):
        from earl.policy.adapters import save_adapter

        save_adapter(model, folder)
        return
    weights = dict(state_dict) if state_dict is not None else model.state_dict()
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()}
    config = copy.deepcopy(model.config)
    config.dtype = next(iter(weights.values())).dtype
    config.architectures = ["Emu3ForCausalLM"]

    with new_folder(folder) as fresh:
        config.save_pretrained(fresh)
        save_torch_state_dict(weights, fresh, max_shard_size="5GB", metadata={"format": "pt"})
