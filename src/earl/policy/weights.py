"""Reading weights: safetensors only, one file or shards with an index, names put in one layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from earl.errors import ModelFormatError
from earl.models.weight_files import weight_files

# The text part of a full Emu3ForConditionalGeneration: of today's transformers, and as first published.
_RENAMES = (
    (re.compile(r"^model\.text_model\."), "model."),
    (re.compile(r"^text_model\.(model\.|lm_head\.)"), r"\1"),
)
_NOT_TEXT = re.compile(r"^(model\.)?(vqmodel|vocabulary_mapping)\.|\.rotary_emb\.inv_freq$")


def iterate_weights(folder: Path, device: str = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the Emu3ForCausalLM layout, tensor) of every text weight; vision weights are skipped.

    Raises:
        ModelFormatError: a file that is truncated or no safetensors.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt", device=device) as weights:
                for name in weights.keys():  # noqa: SIM118 (not a dict)
                    if not _NOT_TEXT.search(name):
                        yield _rename(name), weights.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelFormatError(
                f"{file} is truncated or no safetensors file ({error}); fetch it again"
            ) from error


def _rename(name: str) -> str:
    for pattern, into in _RENAMES:
        name = pattern.sub(into, name)
    return name


def check_names(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: Path) -> None:
    """Refuse weights that do not fit: a missing, unexpected or wrongly shaped tensor.

    Raises:
        ModelFormatError: names the first offenders.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        said = [
            f"{label} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            for label, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ModelFormatError(f"the weights in {where} do not fit its config.json: {'; '.join(said)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ModelFormatError(
                f"{name} in {where} has shape {tuple(tensor.shape)}, "
                f"its config.json asks for {tuple(expected[name].shape)}"
            )


def take_weights(model: Any, found: dict[str, torch.Tensor], where: Path) -> None:
    """Hand the layers of a policy, made without memory, the tensors that were read.

    A head that is tied to the embedding and not stored is the embedding.

    Raises:
        ModelFormatError: weights that do not fit, or of several types.
    """
    if model.config.tie_word_embeddings and "lm_head.weight" not in found:
        embedding = found.get("model.embed_tokens.weight")
        if embedding is not None:
            found["lm_head.weight"] = embedding
    check_names(model.state_dict(), found, where)
    dtypes = {tensor.dtype for tensor in found.values()}
    if len(dtypes) > 1 or not next(iter(dtypes)).is_floating_point:
        raise ModelFormatError(
            f"the weights in {where} are of types {', '.join(sorted(map(str, dtypes)))}; "
            "load them with dtype='float32' or dtype='bfloat16'"
        )
    model.load_state_dict(found, strict=True, assign=True)
