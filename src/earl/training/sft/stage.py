"""What the base stage and SFT share: from a recipe to a trainer, and from its weights to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import Accelerator

from earl.config.sections import Data
from earl.config.stages import BaseRecipe, SftRecipe
from earl.data.collate import Bundle
from earl.data.examples import Example
from earl.data.mixture import Mixture
from earl.data.shards import Edit, EditShards
from earl.training.assemble import assemble_policy, load_sources
from earl.training.export import save_model
from earl.training.loop import Report, Trainer
from earl.training.neighbour_smoothing import set_kinship
from earl.training.ranks import create_accelerator
from earl.training.sft.assemble import count_steps, create_stream, load_validation
from earl.training.sft.objective import PolicyObjective
from earl.training.sft.validation import Validator
from earl.training.state import whole
from earl.training.streams import RandomStreams


def composition(sources: Mapping[str, EditShards], data: Data) -> list[str]:
    """What is trained on, in words: the edits of every source by group, and how often each is drawn."""
    lines = []
    for name, shards in sources.items():
        groups = ", ".join(f"{count:,} {group}" for group, count in sorted(shards.groups().items()))
        weight = data.sources[name].weight
        lines.append(f"data source {name}: {groups} edits" + ("" if weight == 1 else f", weight {weight:g}"))
    return lines


class PolicyStage:
    """One stage of training a policy: its objects, made as the recipe says, and its run.

    Attributes:
        parts: policy and tokenizers.
        objective: the loss around the policy.
        sources: the shards by name.

    Raises:
        EarlError: see `assemble_policy`, `load_sources`.
    """

    def __init__(self, recipe: BaseRecipe | SftRecipe) -> None:
        self.recipe = recipe
        self.accelerator: Accelerator = create_accelerator(recipe.run)
        self.streams = RandomStreams(recipe.run.seed, rank=self.accelerator.process_index)
        self.parts = assemble_policy(recipe, self.accelerator.device)
        self.tokenizer = self.parts.tokenizer
        self.objective = PolicyObjective(
            self.parts.policy,
            self.tokenizer.vocabulary,
            recipe.precision,
            hiding=recipe.hiding,
            smoothing=set_kinship(self.parts, recipe.kinship),
        )
        self.sources = load_sources(recipe.data, self.tokenizer)

    def validator(self, encode: Callable[[int, Edit], tuple[str, Example]]) -> Validator | None:
        """Measures the first `validation.samples` edits held back, each as (label, sequence)."""
        held_back = load_validation(self.recipe.data, self.tokenizer)
        if held_back is None:
            return None
        count = min(self.recipe.validation.samples, len(held_back))
        return Validator(
            [encode(index, held_back[index]) for index in range(count)],
            self.objective,
            self.accelerator,
            pad=self.tokenizer.vocabulary.pad,
            micro=self.recipe.batch.micro,
        )

    def train(
        self,
        mixture: Mixture,
        encode: Callable[[str, int], Bundle],
        validate: Callable[[int], dict[str, float]] | None,
    ) -> Report:
        """Run or continue the loop; leaves `run.folder/model`. Raises as `Trainer`."""
        recipe, accelerator = self.recipe, self.accelerator
        pad = self.tokenizer.vocabulary.pad
        trainer = Trainer(
            recipe,
            self.objective,
            create_stream(recipe, recipe.data, mixture, encode, pad=pad, accelerator=accelerator),
            accelerator=accelerator,
            streams=self.streams,
            total_steps=count_steps(recipe, mixture.epoch_size),
            validate=validate,
        )
        for line in composition(self.sources, recipe.data):
            trainer.log.note(line)
        report = trainer.run()
        with trainer.final_weights():
            weights = {name: whole(value) for name, value in self.parts.policy.state_dict().items()}
            if accelerator.is_main_process:
                folder = Path(recipe.run.folder) / "model"
                save_model(self.parts, folder, recipe, step=report.step, weights=weights)
        accelerator.wait_for_everyone()
        return report
