"""Supervised fine-tuning on edits: the loss is on the completion only (EARL, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from earl.config.stages import SftRecipe
from earl.data.examples import Example, edit_example
from earl.data.mixture import Mixture
from earl.sequence import Prefill
from earl.sft.assemble import (
    assemble_policy,
    count_steps,
    create_stream,
    load_sources,
    load_validation,
)
from earl.sft.export import save_model
from earl.sft.objective import PolicyObjective
from earl.sft.validation import Validator
from earl.training.loop import Report, Trainer
from earl.training.ranks import create_accelerator
from earl.training.streams import RandomStreams, derive_seed

MeasureEdits = Callable[[Any, int], dict[str, float]]
"""(policy, number of edits) -> rates by name, `exact` among them."""


def train_sft(recipe: SftRecipe, *, measure_edits: MeasureEdits | None = None) -> Report:
    """Run or continue SFT; leaves `run.folder/model`.

    Args:
        measure_edits: samples and verifies `validation.edits` edits at each validation; called on
            the first rank only.

    Raises:
        EarlError: see `Trainer`, `assemble_policy`, `load_sources`.
    """
    accelerator = create_accelerator(recipe.run)
    streams = RandomStreams(recipe.run.seed, rank=accelerator.process_index)
    parts = assemble_policy(recipe, accelerator.device)
    tokenizer, prefill = parts.tokenizer, prefill_of(recipe)
    sources = load_sources(recipe.data, tokenizer)

    bundles = {name: shards.bundles(recipe.batch.share) for name, shards in sources.items()}

    def encode(name: str, index: int) -> list[Example]:
        return [
            edit_example(
                sources[name][row],
                tokenizer,
                prefill=prefill,
                stitched=recipe.data.stitch,
                score_forced=recipe.score_forced,
            )
            for row in bundles[name][index]
        ]

    mixture = Mixture(
        {name: len(found) for name, found in bundles.items()},
        {name: recipe.data.sources[name].weight for name in sources},
        seed=derive_seed(recipe.run.seed, "mixture"),
    )
    pad = tokenizer.vocabulary.pad
    objective = PolicyObjective(parts.policy, tokenizer.vocabulary, recipe.precision)
    held_back = load_validation(recipe.data, tokenizer)
    loss = None
    if held_back is not None:
        edits = [held_back[index] for index in range(min(recipe.validation.samples, len(held_back)))]
        examples = [
            (edit.family, edit_example(edit, tokenizer, prefill=prefill, stitched=recipe.data.stitch))
            for edit in edits
        ]
        loss = Validator(examples, objective, accelerator, pad=pad, micro=recipe.batch.micro)

    def validate(step: int) -> dict[str, float]:
        values = loss(step) if loss else {}
        if measure_edits and recipe.validation.edits:
            if accelerator.is_main_process:
                values.update(measure_edits(parts.policy, recipe.validation.edits))
            accelerator.wait_for_everyone()
        return values

    trainer = Trainer(
        recipe,
        objective,
        create_stream(recipe, recipe.data, mixture, encode, pad=pad, accelerator=accelerator),
        accelerator=accelerator,
        streams=streams,
        total_steps=count_steps(recipe, mixture.epoch_size),
        validate=validate if loss or measure_edits else None,
    )
    report = trainer.run()
    with trainer.final_weights():
        if accelerator.is_main_process:
            save_model(parts, Path(recipe.run.folder) / "model", recipe, step=report.step)
    accelerator.wait_for_everyone()
    return report


def prefill_of(recipe: SftRecipe) -> Prefill:
    """What sampling will force, and so what is not learnt."""
    return "reasoning" if recipe.data.reasoning else recipe.prefill
