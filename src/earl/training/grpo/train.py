"""Reinforcement learning with a verifier: a recipe to a trained policy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import torch

from earl.config.grpo import Prompts, Rollouts, cut_warning, importance_cap
from earl.config.stages import GrpoRecipe
from earl.config.verifier import VerifierSettings
from earl.data.shards import EditShards
from earl.data.tasks import Split, TaskSettings, open_tasks
from earl.errors import ConfigError
from earl.pipeline import build_pipeline
from earl.policy.devices import native_bf16
from earl.sampling import Engine
from earl.sampling.vllm.base import ServedVllm
from earl.sequence.tokenizer import TextTokenizer
from earl.training.grpo.heldout import HeldOut
from earl.training.grpo.judging import Judge
from earl.training.grpo.logprobs import GrpoObjective
from earl.training.grpo.prompts import PromptSource, ShardPrompts, TaskPrompts, mixed, shards_of
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.shared_engine import SharedEngine
from earl.training.grpo.trainer import GrpoTrainer
from earl.training.loop import RunResult
from earl.training.neighbour_smoothing import smooth_gradients
from earl.training.parts import Parts, assemble_policy, inputs, load_sources, picked_rows, publish_policy
from earl.training.reference import Reference
from earl.training.run import Run, start_run
from earl.training.sharding import unsharded_dtype
from earl.verifiers.factory import make_verifier
from earl.verifiers.protocol import Verifier, check
from earl.vision.images import square_side
from earl.vision.loading import load_vision_tokenizer


def train_grpo(
    recipe: GrpoRecipe,
    verifier: Verifier | None = None,
    *,
    second: Verifier | None = None,
    vision: Any = None,
) -> RunResult:
    """Run or continue reinforcement learning; leaves `run.folder/model`.

    Args:
        verifier: gives the rewards; None makes the recipe's (`[verifier]`).
        second: another one, which scores held-out prompts only; None makes the recipe's, if it has one.
        vision: a vision tokenizer; None loads the recipe's.

    Raises:
        VerifierError: a verifier cannot judge now; nothing has been started then.
        EarlError: see `make_verifier`, `start_run`, `assemble_policy` and `GrpoTrainer`.
    """
    with start_run(recipe) as run:
        verifier = verifier or make_verifier(recipe.verifier)
        names = {"verifier": asyncio.run(check(verifier))}
        if second is None and recipe.verifier.second is not None:
            second = make_verifier(recipe.verifier.second)
        if second is not None:
            names["second"] = asyncio.run(check(second))
        parts = assemble_policy(recipe, run.device)
        vision = vision if vision is not None else _vision(parts, run.device)
        objective = _objective(recipe, parts)
        reference = None
        if recipe.grpo.kl_coefficient > 0 or recipe.early_stopping.max_kl is not None:
            on_cpu, dtype = recipe.grpo.reference_device == "cpu", unsharded_dtype(recipe, run.accelerator)
            reference = Reference(parts.policy, rest_on_cpu=on_cpu, dtype=dtype)
        judge = Judge(recipe.judging.deadline)
        try:
            bf16 = decodes_in_bf16(recipe.rollouts, run.device)
            engine = _engine(run, recipe, parts, vision)
            sampler = Sampler(engine, vision, verifier, judge, recipe, bf16=bf16)
            heldout = None
            held_back: Mapping[str, EditShards] = {}
            if count := recipe.heldout.prompts:
                source = heldout_prompts(recipe, vision, parts.tokenizer)
                held_back = shards_of(source)
                count = min(count, sum(map(len, held_back.values())) or count)  # none of them twice
                heldout = HeldOut(source, count, sampler, objective, reference, run, second=second)
            prompts = training_prompts(recipe, vision, parts.tokenizer)
            trainer = GrpoTrainer(
                run, objective, prompts=prompts, sampler=sampler, reference=reference, heldout=heldout
            )
            trainer.facts["inputs"] = inputs(recipe.model, prompts=shards_of(prompts), heldout=held_back)
            trainer.facts |= names | {"decode": "bf16" if bf16 else "float32"}
            trainer.log.line("; ".join(f"{role}: {name}" for role, name in names.items()))
            if warning := cut_warning(recipe.grpo, recipe.rollouts, parts.tokenizer.vocabulary.codebook_size):
                trainer.log.line(f"warning: {warning}")
            result = trainer.train()
        finally:
            judge.close()
        publish_policy(trainer, parts)
    return result


def training_prompts(recipe: GrpoRecipe, vision: Any, tokenizer: TextTokenizer) -> PromptSource:
    """The prompts of `[prompts]`. Raises ConfigError, DataError."""
    settings, seed = recipe.prompts, recipe.run.seed
    if not settings.shards:
        return _task_prompts(settings, vision, tokenizer, seed=seed, split="train")
    sources = load_sources(settings.shards, tokenizer, vision.rule, vision.fingerprint(), seed=seed)
    _check_targets(sources, recipe.verifier)
    sizes = {name: len(shards) for name, shards in sources.items()}
    weights = {name: settings.shards[name].weight for name in sources}
    return ShardPrompts(vision, tokenizer, sources, mixed(sizes, weights, pool=settings.pool, seed=seed))


def heldout_prompts(recipe: GrpoRecipe, vision: Any, tokenizer: TextTokenizer) -> PromptSource:
    """The prompts of `[heldout]`: all groups, the families of `prompts`; the same for every seed."""
    given = recipe.heldout.held_back
    if not given:
        every = recipe.prompts.replace(group="all", pool=None)
        return _task_prompts(every, vision, tokenizer, seed=0, split=recipe.heldout.split)
    sources = load_sources(given, tokenizer, vision.rule, vision.fingerprint())
    _check_targets(sources, recipe.verifier, recipe.verifier.second)
    rows = picked_rows(sources, given, recipe.heldout.prompts)
    return ShardPrompts(vision, tokenizer, sources, cycle(rows))


def decodes_in_bf16(settings: Rollouts, device: torch.device) -> bool:
    """What `rollouts.decode` means on this device."""
    return settings.decode == "bf16" or (settings.decode == "auto" and native_bf16(device))


def _task_prompts(
    settings: Prompts, vision: Any, tokenizer: TextTokenizer, *, seed: int, split: Split
) -> TaskPrompts:
    side = square_side(vision.area)
    wanted = TaskSettings(split, side, settings.group, settings.families, settings.options)
    tasks = open_tasks(settings.origin, wanted)
    return TaskPrompts(vision, tokenizer, tasks, seed=seed, split=split, pool=settings.pool)


def _check_targets(sources: Mapping[str, EditShards], *verifiers: VerifierSettings | None) -> None:
    if not any(verifier.needs_target for verifier in verifiers if verifier is not None):
        return
    for shards in sources.values():
        if lacking := shards.without_target():
            raise ConfigError(
                f"{lacking} of {len(shards)} edits of {shards.name} have no target image, and a verifier of "
                "kind 'reference' or 'target' compares with it; take edits with targets, or another verifier"
            )


def _objective(recipe: GrpoRecipe, parts: Parts) -> GrpoObjective:
    return GrpoObjective(
        parts.policy,
        parts.tokenizer.vocabulary,
        recipe.precision,
        settings=recipe.grpo.replace(importance_cap=importance_cap(recipe.grpo, recipe.rollouts)),
        temperature=recipe.rollouts.temperature,
        sharing="mask" if recipe.one_pass else "cache",
        smoothing=smooth_gradients(parts, recipe.neighbour_smoothing),
        cut=(recipe.rollouts.top_k, recipe.rollouts.top_p) if recipe.grpo.score_cut else (0, 1.0),
    )


def _engine(run: Run, recipe: GrpoRecipe, parts: Parts, vision: Any) -> Engine | SharedEngine:
    """The engine that `rollouts.engine` names, on the policy in training."""
    settings, (_, ranks) = recipe.rollouts, run.rank
    if settings.engine == "vllm" and ranks > 1:
        raise ConfigError(
            f"rollouts.engine = 'vllm' samples for one training process, this run has {ranks}; use "
            "rollouts.engine=vllm-server, or earl"
        )
    held = {"policy": parts.policy, "tokenizer": parts.tokenizer, "vision": vision}
    engine = build_pipeline(settings, **held, dtype=run.sampling_dtype).engine
    if ranks > 1 and isinstance(engine, ServedVllm):
        return SharedEngine(engine, run.accelerator)
    return engine


def _vision(parts: Parts, device: torch.device) -> Any:
    if parts.vision_path is None:
        raise ConfigError("model.start has no vision tokenizer; set model.vision_tokenizer")
    vision = load_vision_tokenizer(parts.vision_path, device=str(device))
    if parts.area is not None:
        vision.area = parts.area
    return vision
