"""The base stage of a model from scratch: captions, pictures and copying, before any edit.

Emu3 had such a stage too (`BAAI/Emu3-Stage1` is where the published SFT starts): a model that
knows what the words look like, and that can copy a picture, learns to edit from fewer edits.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal, cast

from earl.config.stages import BaseRecipe
from earl.data.examples import Example, Task, whole_example
from earl.data.mixture import Mixture
from earl.data.shards import EditShards
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

TASKS: tuple[Task, ...] = ("caption_to_image", "image_to_caption", "identity")


def train_base(recipe: BaseRecipe) -> Report:
    """Run or continue the base stage; leaves `run.folder/model`.

    Both pictures of every edit in the sources are used, with their captions; the loss is on all
    tokens that the grammar does not force.

    Raises:
        EarlError: see `Trainer`, `assemble_policy`, `load_sources`.
    """
    accelerator = create_accelerator(recipe.run)
    streams = RandomStreams(recipe.run.seed, rank=accelerator.process_index)
    parts = assemble_policy(recipe, accelerator.device)
    tokenizer = parts.tokenizer
    sources = load_sources(recipe.data, tokenizer)

    def encode(name: str, index: int) -> list[Example]:
        task, _, source = name.partition(":")
        side = cast(Literal[0, 1], index % 2)
        return [whole_example(sources[source][index // 2], side, cast(Task, task), tokenizer)]

    mixture = base_mixture(recipe, sources)
    pad = tokenizer.vocabulary.pad
    objective = PolicyObjective(parts.policy, tokenizer.vocabulary, recipe.precision)
    held_back = load_validation(recipe.data, tokenizer)
    validate = None
    if held_back is not None:
        edits = [held_back[index] for index in range(min(recipe.validation.samples, len(held_back)))]
        # Each edit once, its task in turn by the recipe's order.
        examples = [
            (task, whole_example(edit, 0, task, tokenizer))
            for edit, task in zip(edits, itertools.cycle(TASKS), strict=False)
        ]
        validate = Validator(examples, objective, accelerator, pad=pad, micro=recipe.batch.micro)
    trainer = Trainer(
        recipe,
        objective,
        create_stream(recipe, recipe.data, mixture, encode, pad=pad, accelerator=accelerator),
        accelerator=accelerator,
        streams=streams,
        total_steps=count_steps(recipe, mixture.epoch_size),
        validate=validate,
    )
    report = trainer.run()
    with trainer.final_weights():
        if accelerator.is_main_process:
            save_model(parts, Path(recipe.run.folder) / "model", recipe, step=report.step)
    accelerator.wait_for_everyone()
    return report


def base_mixture(recipe: BaseRecipe, sources: dict[str, EditShards]) -> Mixture:
    """Every source once for each task, in the recipe's shares; both pictures of an edit count."""
    shares = {task: float(getattr(recipe.tasks, task)) for task in TASKS}
    names = [(task, source) for task in TASKS for source in sources]
    return Mixture(
        {f"{task}:{source}": 2 * len(sources[source]) for task, source in names},
        {f"{task}:{source}": shares[task] * recipe.data.sources[source].weight / 2 for task, source in names},
        seed=derive_seed(recipe.run.seed, "mixture"),
    )
