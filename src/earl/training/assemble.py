"""From a recipe to the policy, tokenizers and shards that a stage trains with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from earl.config.sections import Data, Lora, Model, Precision
from earl.config.stages import BaseRecipe, GrpoRecipe, SftRecipe
from earl.data.shards import EditShards, load_shards
from earl.errors import ConfigError, DataError
from earl.models.resolve import resolve_model
from earl.policy import (
    add_lora,
    create_policy,
    load_policy,
    merged,
    policy_of,
    recompute_activations,
    warm_start_visual,
)
from earl.sequence import TextTokenizer
from earl.training.streams import derive_seed


@dataclass(frozen=True)
class Parts:
    """What a policy stage works with.

    Attributes:
        vision_path: a folder, None where the recipe has none.
        temperature: that the start has folded in (`earl convert --temperature`), which training goes on with.
    """

    policy: Any
    tokenizer: TextTokenizer
    vision_path: str | None
    area: int | None
    temperature: float = 1.0


def assemble_policy(recipe: BaseRecipe | SftRecipe | GrpoRecipe, device: torch.device) -> Parts:
    """Load or create the policy as the recipe says, ready to train: what is trained is float32.

    Raises:
        ConfigError, ModelNotFoundError, ModelFormatError, TokenizerError.
    """
    model = recipe.model
    attention = _attention(recipe.precision, device)
    tokenizer, vision_path, start = _tokenizers(model)
    if model.start is not None:
        dtype = "bfloat16" if recipe.precision.frozen == "bf16" else "float32"  # its adapter is float32
        policy: Any = load_policy(
            model.start, dtype=dtype, device=device, revision=model.revision, attention=attention
        )
    else:
        assert model.size is not None, "the recipe's check guarantees it"
        seed = derive_seed(recipe.run.seed, "weights")
        policy = create_policy(model.size, tokenizer.vocabulary, seed, attention=attention)
        if model.warm_start_visual:
            _warm_start(policy, tokenizer, vision_path, seed)
        policy.to(device, torch.bfloat16 if recipe.precision.frozen == "bf16" else torch.float32)
    rows = policy_of(policy).config.vocab_size
    if rows != tokenizer.vocabulary.size:
        raise ConfigError(
            f"model.start has {rows} token ids and its text tokenizer {tokenizer.vocabulary.size}; "
            "set model.text_tokenizer to the one it was trained with"
        )
    policy = merged(policy)  # an adapter that the start has becomes part of what is trained
    if recipe.lora is not None:
        policy = _adapt(policy, recipe.lora, model)
    if recipe.precision.gradient_checkpointing:
        recompute_activations(policy)
        if recipe.lora is not None:
            policy_of(policy).enable_input_require_grads()
    if recipe.run.compile:
        for layer in policy_of(policy).model.layers:
            layer.compile()
    area = start.get("area") or model.area
    return Parts(policy, tokenizer, vision_path, area, float(start.get("temperature", 1.0)))


def _attention(precision: Precision, device: torch.device) -> str:
    if precision.attention != "auto":
        return precision.attention
    return "eager" if device.type == "cpu" else "sdpa"


def _tokenizers(model: Model) -> tuple[TextTokenizer, str | None, Mapping[str, Any]]:
    """The text tokenizer, where the vision tokenizer lies, and what `earl.json` of the start says."""
    start = None
    if model.start is not None:
        start = resolve_model(model.start, model.revision, parts=("tokenizer", "vision"))
    if model.text_tokenizer is not None:
        folder = resolve_model(model.text_tokenizer, parts=("tokenizer",)).need("tokenizer")
    else:
        assert start is not None
        folder = start.need("tokenizer")
    vision = None
    if model.vision_tokenizer is not None:
        vision = resolve_model(model.vision_tokenizer, parts=("vision",)).need("vision")
    elif start is not None:
        vision = start.vision_path
    meta = start.meta if start is not None else {}
    return TextTokenizer.from_folder(folder), str(vision) if vision else None, meta


def _warm_start(policy: Any, tokenizer: TextTokenizer, vision_path: str | None, seed: int) -> None:
    if vision_path is None:
        raise ConfigError("model.warm_start_visual needs model.vision_tokenizer: its codebook is read")
    warm_start_visual(policy, read_codebook(vision_path), tokenizer.vocabulary, seed=seed)


def read_codebook(vision_path: str) -> Tensor:
    """The codes' vectors of a vision tokenizer: float32 (codes, dimensions)."""
    from earl.vision import load_vision_tokenizer

    return load_vision_tokenizer(vision_path).parts.quantize.embedding.weight.detach().float()


def _adapt(policy: Any, lora: Lora, model: Model) -> Any:
    return add_lora(policy, lora.rank, lora.targets, alpha=lora.alpha, base=model.start)


def load_sources(data: Data, tokenizer: TextTokenizer) -> dict[str, EditShards]:
    """Open every source with a weight.

    Raises:
        DataError: a source is missing, empty, or its codes do not fit the policy's vocabulary.
    """
    sources = {}
    for name, source in data.sources.items():
        if source.weight > 0:
            shards = load_shards(source.path).select(group=source.group, families=source.families)
            sources[name] = fitting(shards, tokenizer)
    fingerprints = {shards.fingerprint: name for name, shards in sources.items()}
    if len(fingerprints) > 1:
        raise DataError(
            f"data.sources {', '.join(sorted(fingerprints.values()))} were encoded by different vision "
            "tokenizers; prepare them with the same one"
        )
    return sources


def fitting(shards: EditShards, tokenizer: TextTokenizer) -> EditShards:
    """The shards themselves. Raises DataError where their codes do not fit the policy's vocabulary."""
    if shards.codebook_size != tokenizer.vocabulary.codebook_size:
        raise DataError(
            f"{shards.name} holds codes of a codebook of {shards.codebook_size}, the policy's vocabulary has "
            f"{tokenizer.vocabulary.codebook_size}"
        )
    return shards
