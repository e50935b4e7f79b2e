"""Supervised fine-tuning: a recipe to a trained policy. The loss is on the completion (EARL, section 3.2)."""

from __future__ import annotations

from earl.config.stages import SftRecipe
from earl.data.shards import EditShards
from earl.data.stream import TokenStream
from earl.policy.dropout import set_dropout
from earl.training.loop import RunResult, Trainer
from earl.training.neighbour_smoothing import smooth_gradients
from earl.training.parts import (
    assemble_policy,
    composition,
    count_steps,
    inputs,
    load_sources,
    picked,
    publish_policy,
    read_codes,
)
from earl.training.random_streams import derive_seed
from earl.training.run import start_run
from earl.training.sft.images import EditImages
from earl.training.sft.objective import SftObjective
from earl.training.sft.tasks import SftTasks
from earl.training.sft.validation import Validator


def train_sft(recipe: SftRecipe) -> RunResult:
    """Run or continue SFT; leaves `run.folder/model`.

    Raises:
        DataError: the recipe asks for answers and a source has no questions.
        EarlError: see `start_run`, `assemble_policy`, `load_sources` and `Trainer`.
    """
    with start_run(recipe) as run:
        parts = assemble_policy(recipe, run.device)
        set_dropout(parts.policy, recipe.dropout)
        objective = SftObjective(
            parts.policy,
            parts.tokenizer.vocabulary,
            recipe.precision,
            dropout=recipe.token_dropout,
            smoothing=smooth_gradients(parts, recipe.neighbour_smoothing),
        )
        made_by = parts.tokenizer, parts.rule, read_codes(parts)
        sources = load_sources(recipe.data.sources, *made_by, seed=recipe.run.seed)
        tasks = SftTasks(recipe, sources, parts.tokenizer)
        batches = TokenStream(
            tasks.mixture,
            tasks.encode,
            recipe.batch,
            pad=parts.tokenizer.vocabulary.pad,
            max_tokens=min(recipe.data.max_tokens, parts.positions),
            seed=derive_seed(recipe.run.seed, "pools"),
            rank=run.rank,
        )
        validate, images, held_back = None, None, dict[str, EditShards]()
        if recipe.data.held_back:
            held_back = load_sources(recipe.data.held_back, *made_by)
            edits = list(picked(held_back, recipe.data.held_back, recipe.validation.sequences))
            examples = [tasks.held_back(index, edit) for index, edit in enumerate(edits)]
            validator = Validator(examples, objective, run)
            if recipe.validation.images and parts.vision_path is not None and run.main:
                shown = edits[:: max(1, len(edits) // recipe.validation.images)][: recipe.validation.images]
                images = EditImages(parts, shown, tasks.prefill, run)

            def validate(step: int) -> dict[str, float]:
                if images is not None and images.shown:
                    trainer.log.image("validation", step, images.draw())
                return validator(step)

        steps = count_steps(recipe, tasks.mixture.epoch_size)
        trainer = Trainer(run, objective, batches, total_steps=steps, validate=validate)
        trainer.facts["inputs"] = inputs(recipe.model, data=sources, validation=held_back)
        for line in composition(sources, recipe.data):
            trainer.log.line(line)
        result = trainer.train()
        publish_policy(trainer, parts)
    return result
