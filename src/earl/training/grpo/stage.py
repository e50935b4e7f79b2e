"""From a recipe to a trained policy: `train_grpo`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from earl.config.grpo import Prompts, Rollouts, importance_cap
from earl.config.stages import GrpoRecipe
from earl.config.verifier import VerifierSettings
from earl.data.shards import EditShards, load_shards
from earl.data.tasks import Split, TaskSettings, open_tasks
from earl.errors import ConfigError
from earl.pipeline import EditPipeline, build_pipeline
from earl.policy.devices import native_bf16
from earl.sequence import TextTokenizer
from earl.training.assemble import Parts, assemble_policy, fitting
from earl.training.export import save_model
from earl.training.grpo.heldout import HeldOut
from earl.training.grpo.judging import Judge
from earl.training.grpo.logprobs import GrpoObjective, Reference, Sharing
from earl.training.grpo.prompts import PromptSource, ShardPrompts, TaskPrompts
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.trainer import GrpoTrainer
from earl.training.loop import Report
from earl.training.neighbour_smoothing import set_kinship
from earl.training.ranks import computes_in_bf16, create_accelerator
from earl.training.sharding import gathered_dtype
from earl.training.state import whole
from earl.training.streams import RandomStreams
from earl.verifiers.factory import make_verifier
from earl.verifiers.protocol import Verifier, check
from earl.vision import load_vision_tokenizer


def train_grpo(
    recipe: GrpoRecipe,
    verifier: Verifier | None = None,
    *,
    second: Verifier | None = None,
    vision: Any = None,
) -> Report:
    """Run or continue reinforcement learning; leaves `run.folder/model`.

    Args:
        verifier: gives the rewards; None makes the recipe's (`[verifier]`).
        second: another one, only looked at on held-out prompts; None makes the recipe's, if it has one.
        vision: a vision tokenizer; None loads the recipe's.

    Raises:
        VerifierError: a verifier cannot judge now; nothing has been started then.
        EarlError: see `make_verifier`, `assemble_policy` and `GrpoTrainer`.
    """
    if verifier is None:
        verifier = make_verifier(recipe.verifier)
    if second is None and recipe.verifier.second is not None:
        second = make_verifier(recipe.verifier.second)
    judging = {"verifier": asyncio.run(check(verifier))}
    if second is not None:
        judging["second"] = asyncio.run(check(second))
    accelerator = create_accelerator(recipe.run)
    streams = RandomStreams(recipe.run.seed, rank=accelerator.process_index)
    parts = assemble_policy(recipe, accelerator.device)
    vision = vision if vision is not None else _vision(parts, accelerator.device)
    objective = _objective(recipe, parts)
    reference = None
    if recipe.grpo.kl_coefficient > 0 or recipe.stops.max_kl is not None:
        reference = Reference(
            parts.policy,
            rest_on_cpu=recipe.grpo.reference_device == "cpu",
            dtype=gathered_dtype(recipe.ranks, recipe.precision, accelerator),
        )
    judge = Judge(recipe.judging.deadline)
    try:
        sampler = Sampler(
            _pipeline(recipe, parts, vision, accelerator),
            verifier,
            judge,
            settings=recipe.rollouts,
            judging=recipe.judging,
            seed=recipe.run.seed,
            bf16=decodes_in_bf16(recipe.rollouts, accelerator.device),
            score_forced=recipe.grpo.mirror_release,
        )
        heldout = None
        if recipe.heldout.prompts:
            source = heldout_prompts(recipe, vision, parts.tokenizer)
            count = recipe.heldout.prompts
            heldout = HeldOut(source, count, sampler, objective, reference, accelerator, second=second)
        trainer = GrpoTrainer(
            recipe,
            objective,
            prompts=training_prompts(recipe, vision, parts.tokenizer),
            sampler=sampler,
            reference=reference,
            accelerator=accelerator,
            streams=streams,
            heldout=heldout,
        )
        trainer.facts |= judging | {"decode": "bf16" if sampler.bf16 else "float32"}
        trainer.log.note("; ".join(f"{role}: {name}" for role, name in judging.items()))
        if heldout:
            heldout.log, heldout.book = trainer.log, trainer.book
        report = trainer.run()
    finally:
        judge.close()
    with trainer.final_weights():
        weights = {name: whole(value) for name, value in parts.policy.state_dict().items()}
        if accelerator.is_main_process:
            save_model(parts, Path(recipe.run.folder) / "model", recipe, step=report.step, weights=weights)
    accelerator.wait_for_everyone()
    return report


def training_prompts(recipe: GrpoRecipe, vision: Any, tokenizer: TextTokenizer) -> PromptSource:
    """What `[prompts]` asks for. Raises ConfigError, DataError."""
    settings, seed = recipe.prompts, recipe.run.seed
    if settings.path is None:
        return _task_prompts(settings, vision, tokenizer, seed=seed, split="train")
    shards = load_shards(settings.path).select(group=settings.group, families=settings.families)
    _check_targets(shards, recipe.verifier)
    return ShardPrompts(vision, tokenizer, fitting(shards, tokenizer), seed=seed)


def heldout_prompts(recipe: GrpoRecipe, vision: Any, tokenizer: TextTokenizer) -> PromptSource:
    """What `[heldout]` asks for: all families, whatever is trained on; the same for every seed."""
    if recipe.heldout.path is None:
        every = recipe.prompts.model_copy(update={"group": "all", "families": ()})
        return _task_prompts(every, vision, tokenizer, seed=0, split=recipe.heldout.split)
    shards = load_shards(recipe.heldout.path)
    _check_targets(shards, recipe.verifier, recipe.verifier.second)
    return ShardPrompts(vision, tokenizer, fitting(shards, tokenizer), seed=0)


def _task_prompts(
    settings: Prompts, vision: Any, tokenizer: TextTokenizer, *, seed: int, split: Split
) -> TaskPrompts:
    side = round(vision.area**0.5 / 8) * 8
    wanted = TaskSettings(split, side, settings.group, settings.families, settings.options)
    tasks = open_tasks(settings.origin, wanted)
    return TaskPrompts(vision, tokenizer, tasks, seed=seed, split=split)


def _check_targets(shards: EditShards, *verifiers: VerifierSettings | None) -> None:
    if not any(verifier.needs_target for verifier in verifiers if verifier is not None):
        return
    if lacking := shards.without_target():
        raise ConfigError(
            f"{lacking} of {len(shards)} edits of {shards.name} have no target image, and a verifier of kind "
            "'reference' compares with it; take edits with targets, or another verifier"
        )


def _objective(recipe: GrpoRecipe, parts: Parts) -> GrpoObjective:
    settings = recipe.grpo
    sharing: Sharing = "none"
    if settings.share_prompt:
        # Activations that are recomputed leave no cache to share; and weights that are cut are gathered for
        # one pass through a layer and its backward pass, where a cache means two passes.
        one_pass = recipe.precision.gradient_checkpointing or recipe.ranks.sharding != "none"
        sharing = "mask" if one_pass else "cache"
    return GrpoObjective(
        parts.policy,
        parts.tokenizer.vocabulary,
        recipe.precision,
        settings,
        temperature=recipe.rollouts.temperature,
        importance_cap=importance_cap(settings, recipe.rollouts),
        importance_range=settings.importance_range,
        sharing=sharing,
        smoothing=set_kinship(parts, recipe.kinship),
    )


def _pipeline(recipe: GrpoRecipe, parts: Parts, vision: Any, accelerator: Accelerator) -> EditPipeline:
    """The policy in training with the engine that `rollouts.engine` names."""
    settings = recipe.rollouts
    if settings.engine != "earl" and accelerator.num_processes > 1:
        raise ConfigError(
            f"rollouts.engine = {settings.engine!r} samples for one training process, this run has "
            f"{accelerator.num_processes}; use rollouts.engine=earl"
        )
    return build_pipeline(
        settings,
        policy=parts.policy,
        tokenizer=parts.tokenizer,
        vision=vision,
        dtype=_sampling_dtype(recipe, accelerator.device),
    )


def _vision(parts: Parts, device: torch.device) -> Any:
    if parts.vision_path is None:
        raise ConfigError("model.start has no vision tokenizer; set model.vision_tokenizer")
    vision = load_vision_tokenizer(parts.vision_path, device=str(device))
    if parts.area is not None:
        vision.area = parts.area
    return vision


def decodes_in_bf16(settings: Rollouts, device: torch.device) -> bool:
    """What `rollouts.decode` means on this device."""
    return settings.decode == "bf16" or (settings.decode == "auto" and native_bf16(device))


def _sampling_dtype(recipe: GrpoRecipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where training computes in it and the machine does so natively."""
    native = computes_in_bf16(recipe.precision, device) and native_bf16(device)
    return torch.bfloat16 if native else None
