"""From a recipe to the streams of a stage: batches, validation, how many steps."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator

from earl.config.sections import Data
from earl.config.stages import TrainingRecipe
from earl.data.collate import Bundle
from earl.data.mixture import Mixture
from earl.data.shards import EditShards, load_shards
from earl.data.stream import TokenStream
from earl.sequence import TextTokenizer
from earl.training.assemble import fitting
from earl.training.streams import derive_seed


def load_validation(data: Data, tokenizer: TextTokenizer) -> EditShards | None:
    return fitting(load_shards(data.validation), tokenizer) if data.validation is not None else None


def create_stream(
    recipe: TrainingRecipe,
    data: Data,
    mixture: Mixture,
    encode: Callable[[str, int], Bundle],
    *,
    pad: int,
    accelerator: Accelerator,
) -> TokenStream:
    """This rank's stream of batches."""
    return TokenStream(
        mixture,
        encode,
        pad=pad,
        sequences=recipe.batch.sequences,
        micro=recipe.batch.micro,
        share=recipe.batch.share,
        pool=recipe.batch.pool,
        max_tokens=data.max_tokens,
        seed=derive_seed(recipe.run.seed, "pools"),
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
        multiple=32 if recipe.run.compile else 1,  # few shapes, few compilations
    )


def count_steps(recipe: TrainingRecipe, epoch_size: float) -> int:
    """Updates of the whole run: the recipe's steps, or its epochs, whichever is less.

    Args:
        epoch_size: bundles of an epoch (`Mixture.epoch_size`).
    """
    limits = []
    if recipe.length.steps is not None:
        limits.append(recipe.length.steps)
    if recipe.length.epochs is not None:
        limits.append(
            max(1, round(recipe.length.epochs * epoch_size * recipe.batch.share / recipe.batch.sequences))
        )
    return min(limits)
