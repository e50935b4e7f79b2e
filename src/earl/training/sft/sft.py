"""Supervised fine-tuning on edits: the loss is on the completion only (EARL, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from earl.config.stages import SftRecipe
from earl.data.examples import Example, edit_example
from earl.data.mixture import Mixture
from earl.data.shards import Edit
from earl.sequence import Prefill
from earl.training.loop import Report
from earl.training.sft.stage import PolicyStage
from earl.training.sft.wordings import Rewording
from earl.training.streams import derive_seed

MeasureEdits = Callable[[Any, int], dict[str, float]]
"""(policy, number of edits) -> rates by name, `exact` among them."""


def train_sft(recipe: SftRecipe, *, measure_edits: MeasureEdits | None = None) -> Report:
    """Run or continue SFT; leaves `run.folder/model`.

    Args:
        measure_edits: samples and verifies `validation.edits` edits at each validation; called on
            the first rank only.

    Raises:
        EarlError: see `PolicyStage` and `Trainer`.
    """
    stage = PolicyStage(recipe)
    prefill = prefill_of(recipe)
    bundles = {name: shards.bundles(recipe.batch.share) for name, shards in stage.sources.items()}

    def example(edit: Edit) -> Example:
        return edit_example(
            edit,
            stage.tokenizer,
            prefill=prefill,
            stitched=recipe.data.stitch,
            score_forced=recipe.score_forced,
        )

    rewording = Rewording(recipe.data.wordings, derive_seed(recipe.run.seed, "wordings"))

    def encode(name: str, index: int) -> list[Example]:
        rows = bundles[name][index]
        edits = [rewording(stage.sources[name][row], part=number) for number, row in enumerate(rows)]
        return [example(edit) for edit in edits]

    validator = stage.validator(lambda _, edit: (edit.family, example(edit)))
    edits = recipe.validation.edits if measure_edits else 0

    def validate(step: int) -> dict[str, float]:
        values = validator(step) if validator else {}
        if measure_edits and edits:
            if stage.accelerator.is_main_process:
                values.update(measure_edits(stage.parts.policy, edits))
            stage.accelerator.wait_for_everyone()
        return values

    mixture = Mixture(
        {name: len(found) for name, found in bundles.items()},
        {name: recipe.data.sources[name].weight for name in bundles},
        seed=derive_seed(recipe.run.seed, "mixture"),
    )
    rewording.mixture = mixture
    return stage.train(mixture, encode, validate if validator or edits else None)


def prefill_of(recipe: SftRecipe) -> Prefill:
    """What sampling will force, and so what is not learnt."""
    return "reasoning" if recipe.data.reasoning else recipe.prefill
