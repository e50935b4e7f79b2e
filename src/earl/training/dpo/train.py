"""Preference tuning: a recipe and shards of pairs to a trained policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from earl.config.stages import DpoRecipe
from earl.data.collate import Bundle, collate
from earl.data.mixture import Mixture
from earl.data.stream import TokenStream
from earl.training.dpo.objective import DpoObjective, check_pairs, pair_batch, pair_examples, with_reference
from earl.training.loop import RunResult, Trainer, rank_means
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
from earl.training.reference import Reference
from earl.training.run import Run, start_run
from earl.training.sharding import unsharded, unsharded_dtype


def train_dpo(recipe: DpoRecipe) -> RunResult:
    """Run or continue preference tuning; leaves `run.folder/model`.

    Raises:
        DataError: an edit of a source is no pair.
        EarlError: see `start_run`, `assemble_policy`, `load_sources` and `Trainer`.
    """
    with start_run(recipe) as run:
        parts = assemble_policy(recipe, run.device)
        tokenizer = parts.tokenizer
        made_by = tokenizer, parts.rule, read_codes(parts)
        sources = load_sources(recipe.data.sources, *made_by, seed=recipe.run.seed)
        encode = partial(pair_examples, tokenizer=tokenizer, stitched=recipe.data.stitch)
        check_pairs(sources)
        objective = DpoObjective(
            parts.policy,
            tokenizer.vocabulary,
            recipe.precision,
            settings=recipe.dpo,
            sharing="mask" if recipe.one_pass else "cache",
            smoothing=smooth_gradients(parts, recipe.neighbour_smoothing),
        )
        reference = Reference(parts.policy, dtype=unsharded_dtype(recipe, run.accelerator))
        mixture = Mixture(
            {name: len(shards) for name, shards in sources.items()},
            {name: recipe.data.sources[name].weight for name in sources},
            seed=derive_seed(recipe.run.seed, "mixture"),
        )
        pairs = TokenStream(
            mixture,
            lambda name, row: encode(sources[name][row]),
            recipe.batch,
            pad=tokenizer.vocabulary.pad,
            max_tokens=min(recipe.data.max_tokens, parts.positions),
            seed=derive_seed(recipe.run.seed, "pools"),
            rank=run.rank,
        )
        validator = None
        if recipe.data.held_back:
            held_back = load_sources(recipe.data.held_back, *made_by)
            check_pairs(held_back)
            edits = picked(held_back, recipe.data.held_back, recipe.validation.sequences)
            bundles = [encode(edit) for edit in edits]
            validator = Validator(bundles, objective, reference, run)
        steps = count_steps(recipe, mixture.epoch_size)
        trainer = DpoTrainer(run, objective, pairs, total_steps=steps, validate=validator)
        trainer.reference = reference
        trainer.facts["inputs"] = inputs(recipe.model, data=sources)
        for line in composition(sources, recipe.data):
            trainer.log.line(line)
        result = trainer.train()
        publish_policy(trainer, parts)
    return result


class DpoTrainer(Trainer):
    """The shared loop; each batch is scored by the reference before it is trained on."""

    reference: Reference

    def train_step(self) -> str | None:
        """Pairs → log-probabilities of the reference → loss → update."""
        batches = [pair_batch(batch) for batch in next(self.batches)]
        with nullcontext() if self.reference.is_copy else unsharded(self.objective):
            scored = with_reference(self.objective, self.reference, batches, self.accelerator.device)
        self._update(scored)
        return None


class Validator:
    """The objective's numbers on fixed pairs, over all ranks.

    Args:
        bundles: the same on every rank; each takes its share.
    """

    def __init__(
        self, bundles: Sequence[Bundle], objective: DpoObjective, reference: Reference, run: Run
    ) -> None:
        (rank, ranks), size = run.rank, run.recipe.batch.micro_size
        parts = [bundles[start : start + size] for start in range(0, len(bundles), size)]
        pad = objective.vocabulary.pad
        self._batches = [pair_batch(collate(part, pad)) for part in parts[rank::ranks]]
        self._objective, self._reference, self._accelerator = objective, reference, run.accelerator

    def __call__(self, step: int) -> dict[str, float]:
        """Means by name, as `DpoObjective.forward` has them."""
        device: Any = self._accelerator.device
        sums = {name: torch.zeros(2, dtype=torch.float64, device=device) for name in METRICS}
        for batch in with_reference(self._objective, self._reference, self._batches, device):
            for name, pair in self._objective(batch).metrics.items():
                sums[name] += pair
        return rank_means(sums, self._accelerator)


METRICS = ("loss", "margin", "accuracy", "preferred", "other", "likelihood")
