"""Assembly of the policy, tokenizers and shards that a recipe names; the trained model's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earl import __version__
from earl.config.sections import HeldSource, Model, Source, Sources
from earl.config.stages import GrpoRecipe, PolicyRecipe, SftRecipe, TrainingRecipe
from earl.data.shards import Edit, EditShards, load_shards
from earl.data.sums import digest_of
from earl.data.weights import pick
from earl.errors import ConfigError, DataError
from earl.files import new_folder, write_json
from earl.models.resolve import ModelFolder, new_meta, resolve_model
from earl.models.weight_files import copy_files, fingerprint
from earl.policy.adapters import add_lora, merged
from earl.policy.compiled import compile_parts
from earl.policy.likelihood import policy_of, recompute_activations
from earl.policy.loading import create_policy, load_policy, warm_start_visual
from earl.policy.saving import save_policy
from earl.records import SizeRule
from earl.sequence.tokenizer import TextTokenizer
from earl.training.loop import Trainer
from earl.training.random_streams import derive_seed
from earl.training.tensors import full
from earl.vision.loading import read_size_rule


@dataclass(frozen=True)
class Parts:
    """Parts of the model that is trained.

    Attributes:
        vision_path: a folder, None where the recipe has none.
        rule: by which images are resized, None where there is no vision tokenizer.
        temperature: that the start has folded in (`earl convert --temperature`), which training goes on with.
        reasons: whether this training is of a chain of thought before the image.
        steps: by which domain the start's chains of thought are split into steps, None where they are not.
    """

    policy: Any
    tokenizer: TextTokenizer
    vision_path: str | None
    area: int | None
    rule: SizeRule | None = None
    temperature: float = 1.0
    reasons: bool = False
    steps: str | None = None

    @property
    def positions(self) -> int:
        """Ids of the longest sequence that the policy takes."""
        return int(policy_of(self.policy).config.max_position_embeddings)


def assemble_policy(recipe: PolicyRecipe, device: torch.device) -> Parts:
    """Load or create the policy as the recipe says, ready to train: what is trained is float32.

    Raises:
        ConfigError, ModelNotFoundError, ModelFormatError, TokenizerError.
    """
    model = recipe.model
    attention = "eager" if device.type == "cpu" else "sdpa"  # on CPUs eager is faster at small sizes
    tokenizer, vision_path, found = _tokenizers(model)
    start = found.meta if model.start else {}
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
            assert vision_path is not None, "the recipe's check guarantees it"
            warm_start_visual(policy, read_codebook(vision_path), tokenizer.vocabulary, seed=seed)
        policy.to(device, torch.bfloat16 if recipe.precision.frozen == "bf16" else torch.float32)
    rows = policy_of(policy).config.vocab_size
    if rows != tokenizer.vocabulary.size:
        raise ConfigError(
            f"model.start has {rows} token ids and its text tokenizer {tokenizer.vocabulary.size}; "
            "set model.text_tokenizer to the one it was trained with"
        )
    policy = merged(policy)  # an adapter that the start has becomes part of what is trained
    if recipe.lora is not None:
        lora = recipe.lora
        policy = add_lora(policy, lora.rank, lora.targets, alpha=lora.alpha, base=model.start)
    if recipe.precision.gradient_checkpointing:
        recompute_activations(policy)
        if recipe.lora is not None:
            policy_of(policy).enable_input_require_grads()
    if recipe.run.compile:
        compile_parts(policy)
    area = model.area or start.get("area")
    rule = read_size_rule(vision_path, start) if vision_path is not None else None
    reasons = (isinstance(recipe, SftRecipe) and recipe.data.reasoning) or (
        isinstance(recipe, GrpoRecipe) and recipe.rollouts.prefill == "reasoning"
    )
    temperature, steps = float(start.get("temperature", 1.0)), start.get("steps") if reasons else None
    return Parts(policy, tokenizer, vision_path, area, rule, temperature, reasons, steps)


def _tokenizers(model: Model) -> tuple[TextTokenizer, str | None, ModelFolder]:
    """The text tokenizer, where the vision tokenizer lies, and the model that they come from."""
    home = model.start or model.text_tokenizer
    assert home is not None, "the recipe's check guarantees it"
    found = resolve_model(
        home,
        model.revision,
        tokenizer=model.text_tokenizer,
        vision=model.vision_tokenizer,
        parts=("tokenizer", "vision"),
    )
    vision = found.vision_path if model.start or model.vision_tokenizer else None
    return TextTokenizer.from_folder(found.need("tokenizer")), str(vision) if vision else None, found


def read_codebook(vision_path: str) -> Tensor:
    """The codes' vectors of a vision tokenizer: float32 (codes, dimensions)."""
    from earl.vision.loading import load_vision_tokenizer

    weight: Tensor = load_vision_tokenizer(vision_path).parts.quantize.embedding.weight
    return weight.detach().float()


def read_codes(parts: Parts) -> str | None:
    """Fingerprint of the model's vision tokenizer; None where it has none."""
    from earl.vision.loading import load_vision_tokenizer

    return None if parts.vision_path is None else load_vision_tokenizer(parts.vision_path).fingerprint()


def load_sources(
    given: Mapping[str, HeldSource],
    tokenizer: TextTokenizer,
    rule: SizeRule | None = None,
    codes: str | None = None,
    *,
    seed: int = 0,
) -> dict[str, EditShards]:
    """Open every source with a weight.

    Args:
        given: of a recipe, as `data.sources` or `prompts.sources`.
        rule: the model's size rule; None where it has none.
        codes: fingerprint of the model's vision tokenizer; None where it has none.
        seed: of the run; draws what a source asks to be drawn.

    Raises:
        DataError: as `fitting`; or the sources were made by different tokenizers or size rules.
    """
    sources = {}
    for name, source in given.items():
        if source.weight > 0:
            shards = load_shards(source.path).select(group=source.group, families=source.families)
            if isinstance(source, Source) and source.draw is not None:
                shards = shards.draw(source.draw, derive_seed(seed, "draw", name))
            sources[name] = fitting(shards, tokenizer, rule, codes)
    fingerprints = {shards.fingerprint: name for name, shards in sources.items()}
    if len(fingerprints) > 1:
        raise DataError(
            f"sources {', '.join(sorted(fingerprints.values()))} were encoded by different vision "
            "tokenizers; prepare them with the same one"
        )
    rules = {shards.size_rule: name for name, shards in sources.items()}
    if len(rules) > 1:
        said = " and ".join(f"{name} by the rule {rule!r}" for rule, name in sorted(rules.items()))
        raise DataError(f"images of the sources were resized for {said}; prepare them with the same model")
    return sources


def inputs(model: Model, **sources: Mapping[str, EditShards]) -> dict[str, str]:
    """Digests of what a run reads, by name: the weights that it starts from, and its sources' shards."""
    read = {
        f"contents of {part}.{name}": digest_of(Path(shards.name))
        for part, named in sources.items()
        for name, shards in named.items()
    }
    if model.start is not None:
        start = resolve_model(model.start, model.revision, parts=("policy",))
        read["weights of model.start"] = fingerprint(start.need("policy"))
    return read


def count_steps(recipe: PolicyRecipe, epoch_size: float) -> int:
    """Updates of the whole run: the recipe's steps, or its epochs, whichever is less.

    Args:
        epoch_size: bundles of an epoch (`Mixture.epoch_size`).

    Raises:
        ConfigError: they end before the learning rate has reached its peak.
    """
    limits = []
    if recipe.length.max_steps is not None:
        limits.append(recipe.length.max_steps)
    if recipe.length.max_epochs is not None:
        bundles = recipe.batch.global_size / recipe.batch.share
        limits.append(max(1, round(recipe.length.max_epochs * epoch_size / bundles)))
    steps, warmup = min(limits), recipe.schedule.warmup_steps
    if warmup > steps:
        raise ConfigError(
            f"schedule.warmup_steps = {warmup}, and length.max_epochs = {recipe.length.max_epochs:g} of "
            f"these data are {steps} updates; lower the first or raise the second"
        )
    return steps


def composition(sources: Mapping[str, EditShards], data: Sources) -> Iterator[str]:
    """Training data in words: the edits of every source by group, and how often each is drawn."""
    for name, shards in sources.items():
        groups = ", ".join(f"{count:,} {group}" for group, count in sorted(shards.groups().items()))
        weight = data.sources[name].weight
        yield f"data source {name}: {groups} edits" + ("" if weight == 1 else f", weight {weight:g}")


def picked(sources: Mapping[str, EditShards], given: Mapping[str, HeldSource], count: int) -> Iterator[Edit]:
    """A sample of edits of several sources, by their weights; the same at each call."""
    return (sources[name][row] for name, row in picked_rows(sources, given, count))


def picked_rows(
    sources: Mapping[str, EditShards], given: Mapping[str, HeldSource], count: int
) -> Iterator[tuple[str, int]]:
    """The same sample as names of sources and numbers of rows."""
    sizes = {name: len(shards) for name, shards in sources.items()}
    rows = pick(count, sizes, {name: given[name].weight for name in sources}, seed=0)
    return ((name, row) for name, places in rows.items() for row in places)


def fitting(
    shards: EditShards, tokenizer: TextTokenizer, rule: SizeRule | None = None, codes: str | None = None
) -> EditShards:
    """The shards themselves.

    Args:
        rule, codes: as of `load_sources`.

    Raises:
        DataError: their codes do not fit the policy's vocabulary, or come of another vision tokenizer; or
            their grids come of another rule.
    """
    if rule is not None and shards.size_rule != rule:
        raise DataError(
            f"{shards.name}: images were resized by the rule {shards.size_rule!r}, the model's is {rule!r}; "
            "prepare it with the model's own vision tokenizer"
        )
    if shards.codebook_size != tokenizer.vocabulary.codebook_size:
        raise DataError(
            f"{shards.name} holds codes of a codebook of {shards.codebook_size}, the policy's vocabulary has "
            f"{tokenizer.vocabulary.codebook_size}"
        )
    if codes not in (None, shards.fingerprint):
        raise DataError(
            f"{shards.name} was encoded by another vision tokenizer ({shards.fingerprint}) than the "
            f"model's ({codes}); prepare it with the model's own"
        )
    return shards


def publish_policy(trainer: Trainer, parts: Parts) -> None:
    """Write `run.folder/model` with the final weights; every rank calls it. Raises OutputError."""
    run = trainer.run
    with trainer.final_weights():
        weights = {name: full(value) for name, value in parts.policy.state_dict().items()}
        if run.main:
            save_model(parts, run.folder / "model", run.recipe, step=trainer.step, weights=weights)
    run.accelerator.wait_for_everyone()


def save_model(
    parts: Parts,
    folder: str | Path,
    recipe: TrainingRecipe,
    *,
    step: int,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `policy/`, the text tokenizer, `vision/` and `earl.json`.

    A LoRA adapter is written as `adapter/`, which names its base; the rest is the base's own. Each part
    is whole or as it was before; `earl.json`, which makes the folder a model, comes last.

    Args:
        weights: of the policy, full, where its own are sharded.

    Raises:
        OutputError: the disk is full or not writable.
    """
    folder = Path(folder)
    adapter = hasattr(parts.policy, "peft_config")
    save_policy(parts.policy, folder / ("adapter" if adapter else "policy"), state_dict=weights)
    meta = new_meta(
        vocabulary=parts.tokenizer.vocabulary.to_dict(),
        origin={"earl": __version__, "title": recipe.title, "step": step, "seed": recipe.run.seed},
        parameters=sum(p.numel() for p in policy_of(parts.policy).parameters()),
        area=parts.area,
        size=parts.rule,
        temperature=parts.temperature,
        reasoning=parts.reasons,
        steps=parts.steps,
    )
    parts.tokenizer.save(folder)
    if parts.vision_path is not None:
        with new_folder(folder / "vision") as fresh:
            copy_files(Path(parts.vision_path), fresh)
    write_json(folder / "earl.json", meta)
    return folder
