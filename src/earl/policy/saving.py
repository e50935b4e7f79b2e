"""Saving a policy as a whole folder, or not at all; in its own precision, or quantised.

The layout is that of transformers (`config.json`, `model.safetensors` or shards with an index), so
that stock tools read it too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from transformers import Emu3ForCausalLM

from earl.files import new_folder
from earl.policy.configs import QUANT_METHOD
from earl.policy.weights import quantising
from earl.records import Bits

_SHARD = 1_000_000_000  # bytes: what is held in memory of a quantised policy while it is written


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
    config = stored_config(model, next(iter(weights.values())).dtype)

    with new_folder(folder) as fresh:
        config.save_pretrained(fresh)
        save_torch_state_dict(weights, fresh, max_shard_size="5GB", metadata={"format": "pt"})


def stored_config(model: Emu3ForCausalLM, dtype: torch.dtype) -> Any:
    """A copy of a policy's configuration that names its class and the dtype of the stored weights."""
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.architectures = ["Emu3ForCausalLM"]
    return config


def save_quantised(model: Emu3ForCausalLM, folder: str | Path, bits: Bits) -> None:
    """Save a policy with the matrices of its layers in 8 or 4 bits, for `open_policy` on a CPU.

    Matrices are quantised one by one and written shard by shard, so that little more than a shard is in
    memory beside the model.

    Args:
        model: without an adapter.
        folder: made or replaced as a whole.

    Raises:
        OutputError: the disk is full or not writable; the folder is as before.
    """
    config = stored_config(model, model.lm_head.weight.dtype)
    tied = model.config.tie_word_embeddings
    kept = [pair for pair in model.state_dict().items() if not (tied and pair[0] == "lm_head.weight")]
    with new_folder(folder) as fresh:
        config.save_pretrained(fresh)
        file = fresh / "config.json"
        note = {"quantization_config": {"quant_method": QUANT_METHOD, "bits": bits}}
        file.write_text(json.dumps(json.loads(file.read_text()) | note, indent=2) + "\n", encoding="utf-8")
        homes: dict[str, str] = {}
        size = 0
        for number, shard in enumerate(_shards(quantising(kept, bits))):
            name = f"model-{number + 1:05}.safetensors"
            _save_aligned(shard, fresh / name)
            homes |= dict.fromkeys(shard, name)
            size += sum(tensor.nbytes for tensor in shard.values())
        index = {"metadata": {"total_size": size}, "weight_map": homes}
        (fresh / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _save_aligned(shard: dict[str, torch.Tensor], path: Path) -> None:
    """Write a file whose tensors lie at multiples of 16 bytes, so that they can be mapped and multiplied."""
    for padding in ("", " " * 8):  # the header's length is a multiple of 8
        save_file(shard, path, metadata={"format": "pt", "padding": padding})
        with path.open("rb") as file:
            if (8 + int.from_bytes(file.read(8), "little")) % 16 == 0:
                return


def _shards(tensors: Iterator[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    for name, tensor in tensors:
        if shard and sum(held.nbytes for held in shard.values()) + tensor.nbytes > _SHARD:
            yield shard
            shard = {}
        shard[name] = tensor.cpu().contiguous()
    yield shard
