"""Weights of a policy from its folder, under the names of `Emu3ForCausalLM`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from earl.errors import ModelFormatError
from earl.models.tensors import check_tensors, read_tensors
from earl.policy.quantised import SCALE, fits, is_matrix, quantised
from earl.records import Bits

# The text part of a full Emu3ForConditionalGeneration: of today's transformers, and as first published.
_RENAMES = (
    (re.compile(r"^model\.text_model\."), "model."),
    (re.compile(r"^text_model\.(model\.|lm_head\.)"), r"\1"),
)
_NOT_TEXT = re.compile(r"^(model\.)?(vqmodel|vocabulary_mapping)\.|\.rotary_emb\.inv_freq$")


def iterate_weights(folder: Path, device: str | torch.device = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every weight of the policy; those of a vision tokenizer are left out.

    Raises:
        ModelFormatError: a file that is truncated or no safetensors.
    """
    device = torch.device(device)
    place = "cpu" if device.type == "cpu" else str(device)  # safetensors does not know "cpu:0"
    for name, tensor in read_tensors(folder, place):
        if not _NOT_TEXT.search(name):
            for pattern, into in _RENAMES:
                name = pattern.sub(into, name)
            yield name, tensor


def quantising(stored: Iterable[tuple[str, torch.Tensor]], bits: Bits) -> Iterator[tuple[str, torch.Tensor]]:
    """The same weights with the layers' matrices quantised, each followed by its scales."""
    for name, tensor in stored:
        if is_matrix(name) and fits(bits, tuple(tensor.shape)):
            weight, scale = quantised(tensor, bits)
            yield name, weight
            yield name.removesuffix(".weight") + SCALE, scale
        else:
            yield name, tensor


def take_weights(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Hand the layers of a policy, made without memory, the tensors that were read.

    A head that is tied to the embedding and not stored is the embedding.

    Raises:
        ModelFormatError: weights that do not fit, or of several types beside what is quantised.
    """
    if model.config.tie_word_embeddings and "lm_head.weight" not in weights:
        embedding = weights.get("model.embed_tokens.weight")
        if embedding is not None:
            weights["lm_head.weight"] = embedding
    expected = model.state_dict()
    check_tensors(expected, weights, folder)
    scaled = {name for name in weights if name + "_scale" in weights or name.endswith(SCALE)}
    for name in scaled:
        if weights[name].dtype != expected[name].dtype:
            raise ModelFormatError(
                f"{name} in {folder} is of type {weights[name].dtype}, its config.json asks for "
                f"{expected[name].dtype}; convert the model again"
            )
    dtypes = {tensor.dtype for name, tensor in weights.items() if name not in scaled}
    if len(dtypes) > 1 or not next(iter(dtypes)).is_floating_point:
        raise ModelFormatError(
            f"the weights in {folder} are of types {', '.join(sorted(map(str, dtypes)))}; "
            "load them with dtype='float32' or dtype='bfloat16'"
        )
    model.load_state_dict(weights, strict=True, assign=True)
