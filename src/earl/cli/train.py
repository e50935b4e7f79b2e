"""`earl train STAGE RECIPE`: the stages of training.

With more than one process: `accelerate launch -m earl train sft RECIPE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from earl.config import Settings
from earl.config.options import POSITIONAL, Group, Option
from earl.config.recipe import recipe_toml
from earl.config.stages import DryRunSettings, load_stage
from earl.progress import say


class TrainOptions(Settings):
    recipe: Annotated[Path, POSITIONAL] = Field(description="a TOML file, such as those under recipes/")
    overrides: Annotated[tuple[str, ...], Option(positional=True, metavar="KEY=VALUE")] = Field(
        default=(), description="settings to change, as run.folder=runs/a batch.micro_size=8"
    )
    show: bool = Field(default=False, description="print the resolved recipe and stop")
    dry_run: bool = Field(
        default=False,
        description="print the recipe and what a step takes (memory, FLOPs), load nothing, refuse what "
        "cannot fit",
    )


Dry = Annotated[DryRunSettings, Group(title="dry run")]


def tokenizer(options: TrainOptions, dry: Dry) -> None:
    """Train a vision tokenizer."""
    recipe = _recipe(options, dry, "tokenizer")
    if recipe is not None:
        from earl.training.tokenizer.train import train_tokenizer

        _end(recipe, train_tokenizer(recipe))


def sft(options: TrainOptions, dry: Dry) -> None:
    """Fine-tune a policy on example edits."""
    recipe = _recipe(options, dry, "sft")
    if recipe is not None:
        from earl.training.sft.train import train_sft

        _end(recipe, train_sft(recipe))


def dpo(options: TrainOptions, dry: Dry) -> None:
    """Tune a policy to preferred edits."""
    recipe = _recipe(options, dry, "dpo")
    if recipe is not None:
        from earl.training.dpo.train import train_dpo

        _end(recipe, train_dpo(recipe))


def grpo(options: TrainOptions, dry: Dry) -> None:
    """Train a policy by reinforcement."""
    recipe = _recipe(options, dry, "grpo")
    if recipe is not None:
        from earl.training.grpo.train import train_grpo

        _end(recipe, train_grpo(recipe))


def _recipe(options: TrainOptions, dry: DryRunSettings, stage: str) -> Any:
    """The checked recipe; None where it was only to be shown."""
    recipe = load_stage(options.recipe, options.overrides, stage=stage)
    if options.dry_run:
        from earl.training.dry_run import dry_run

        for line in dry_run(recipe, dry):
            say(line)
    elif options.show:
        say(recipe_toml(recipe).rstrip())
    else:
        return recipe
    return None


def _end(recipe: Any, result: Any) -> None:
    from accelerate import PartialState

    if PartialState().is_main_process:
        say(f"{result.reason} at step {result.step}, {result.seconds:.0f} s; see {recipe.run.folder}/model")
