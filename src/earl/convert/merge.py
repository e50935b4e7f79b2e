"""Weighted sum of policies of one shape, as one folder.

With weights that add up to 1 this is an average (model soups, Wortsman et al. 2022, arXiv 2203.05482)
or, with negative ones among them, what one training changed added to another (task arithmetic, Ilharco
et al. 2023, arXiv 2212.04089): `A=1 B=1 C=-1` is A with what led from C to B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earl import __version__
from earl.convert.folder import check_target
from earl.errors import ConfigError, ModelFormatError
from earl.files import new_folder
from earl.models.resolve import ModelFolder, new_meta, resolve_model
from earl.policy.adapters import merged
from earl.policy.loading import load_policy
from earl.policy.saving import save_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer

_SLACK = 1e-6  # by which the sum of the weights may differ from 1


def merge_policies(
    parts: Sequence[tuple[str, float]],
    target: str | Path,
    *,
    dtype: str = "auto",
    vision: str | Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write `target`: the policies' weights, each times its number, summed in float32.

    The text tokenizer is the first model's (all must have the same), the vision tokenizer too, unless
    another is named. One policy is held in memory beside the sum.

    Args:
        parts: (model, weight), two or more; models as `resolve_model` takes them. Weights add up to 1.
        dtype: of the stored weights; "auto" keeps the first policy's.
        vision: a model to take the vision tokenizer from.
        force: replace `target`, if it is a model folder of ours.

    Returns:
        What was written to `earl.json`.

    Raises:
        ConfigError: fewer than two models, weights that are no numbers or do not add up to 1.
        ModelFormatError: policies of different shapes, with different text tokenizers, or with a vision
            tokenizer of other codes.
        OutputError: `target` exists.
        ModelNotFoundError, TokenizerError: a part is missing or damaged.
        OutputError: the disk is full; `target` is as before.
    """
    target = check_target(Path(target), force)
    if len(parts) < 2:
        raise ConfigError(f"{len(parts)} models to merge were named; expected two or more, as MODEL=WEIGHT")
    total = sum(weight for _, weight in parts)
    if not math.isfinite(total) or abs(total - 1) > _SLACK:
        given = " + ".join(f"{weight:g}" for _, weight in parts)
        raise ConfigError(f"the weights add up to {given} = {total:g}; expected 1")
    found = [resolve_model(name, parts=("policy", "tokenizer")) for name, _ in parts]
    first = found[0]
    tokenizer = TextTokenizer.from_folder(first.need("tokenizer"))
    for (name, _), other in zip(parts[1:], found[1:], strict=True):
        if TextTokenizer.from_folder(other.need("tokenizer")).fingerprint() != tokenizer.fingerprint():
            raise ModelFormatError(
                f"{name} has another text tokenizer than {parts[0][0]}: their ids mean other things"
            )
    policy: Any = merged(load_policy(first.need("policy"), dtype=dtype))
    stored = policy.dtype
    summed = _scaled(policy, parts[0][1])
    for (name, weight), other in zip(parts[1:], found[1:], strict=True):
        weights = _scaled(merged(load_policy(other.need("policy"), dtype="float32")), weight)
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in summed.items()}:
            raise ModelFormatError(f"{name} is a policy of another shape than {parts[0][0]}")
        for key, value in weights.items():
            summed[key] += value
    vision_tokenizer = _vision(vision if vision is not None else parts[0][0], tokenizer)
    meta = _meta(parts, found, tokenizer, policy, stored, vision_tokenizer is not None)

    with new_folder(target) as into:
        save_policy(policy, into / "policy", dtype=stored, state_dict=summed)
        tokenizer.save(into)
        if vision_tokenizer is not None:
            meta["area"] = int(first.meta.get("area") or vision_tokenizer.area)
            meta["size"] = vision_tokenizer.rule
            save_vision_tokenizer(vision_tokenizer, into / "vision", area=meta["area"])
        (into / "earl.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return meta


def _scaled(policy: Any, weight: float) -> dict[str, Tensor]:
    return {name: value.detach().float() * weight for name, value in policy.state_dict().items()}


def _vision(name: str | Path, tokenizer: TextTokenizer) -> VisionTokenizer | None:
    """A model's vision tokenizer, if it has one."""
    path = resolve_model(name, parts=("vision",)).vision_path
    if path is None:
        return None
    vision_tokenizer = load_vision_tokenizer(path)
    if vision_tokenizer.codebook_size != tokenizer.vocabulary.codebook_size:
        raise ModelFormatError(
            f"the vision tokenizer of {name} has {vision_tokenizer.codebook_size} codes, the text tokenizer "
            f"{tokenizer.vocabulary.codebook_size} visual tokens; they do not belong together"
        )
    return vision_tokenizer


def _meta(
    parts: Sequence[tuple[str, float]],
    found: Sequence[ModelFolder],
    tokenizer: TextTokenizer,
    policy: Any,
    stored: torch.dtype,
    sees: bool,
) -> dict[str, Any]:
    merged_of = {f"{Path(name).name} ({place})": weight for place, (name, weight) in enumerate(parts, 1)}
    folded = {float(model.meta.get("temperature", 1.0)) for model in found}
    return new_meta(
        parts=["policy", "tokenizer", *(["vision"] if sees else [])],
        vocabulary=tokenizer.vocabulary.to_dict(),
        parameters=sum(parameter.numel() for parameter in policy.parameters()),
        dtype=str(stored).removeprefix("torch."),
        origin={"earl": __version__, "merged": merged_of},
        licence=found[0].meta.get("licence"),
        temperature=folded.pop() if len(folded) == 1 else None,  # folded into all alike, so into their sum
        reasoning=any(model.reasons for model in found),
        steps=found[0].meta.get("steps"),
    )
