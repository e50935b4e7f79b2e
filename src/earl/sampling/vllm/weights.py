"""Policy weights in vLLM's checkpoint layout: one tensor a name, LoRA updates merged in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from earl.policy.likelihood import policy_of
from earl.policy.saving import stored_config
from earl.sampling.native.weights import effective_weight


@torch.no_grad()
def current_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the Emu3ForCausalLM layout, tensor) of a policy as it is now.

    A head tied to the embedding is among them, as `write_config` promises vLLM: its CPU build packs the
    head apart and, of a tied one, keeps the old numbers when new weights come (seen with 0.32.0).
    Merged matrices are made one at a time.
    """
    policy = policy_of(model)
    # Not the state dict: FSDP2 would cut unsharded weights again to make it.
    for name, tensor in policy.named_parameters(remove_duplicate=False):
        if ".lora_" in name:
            continue
        module, wrapped, part = name.partition(".base_layer.")
        if wrapped and part == "weight":
            tensor = effective_weight(policy.get_submodule(module), tensor.dtype)[0]
        yield f"{module}.{part}" if wrapped else name, tensor


def write_checkpoint(model: Any, folder: Path) -> None:
    """`current_weights` as safetensors, with a config.json, that another process can read.

    Raises:
        OutputError: the folder cannot be written.
    """
    from huggingface_hub import save_torch_state_dict

    from earl.files import new_folder

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in current_weights(model)}
    if policy_of(model).config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["lm_head.weight"].clone()  # one file holds no tensor twice

    with new_folder(folder) as fresh:
        write_config(model, fresh)
        save_torch_state_dict(weights, fresh, max_shard_size="5GB", metadata={"format": "pt"})


def write_config(model: Any, folder: Path) -> None:
    """The policy's config.json: names the architecture that vLLM looks for, and a head of its own."""
    policy = policy_of(model)
    config = stored_config(policy, policy.lm_head.weight.dtype)
    config.tie_word_embeddings = False
    config.save_pretrained(folder)
