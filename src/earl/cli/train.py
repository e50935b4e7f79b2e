"""`earl train STAGE RECIPE`: the stages of training.

With more than one process: `accelerate launch -m earl train sft RECIPE`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
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


def _command(stage: str, home: str) -> Callable[[TrainOptions, DryRunSettings], None]:
    """The command of a stage, whose module is imported when it trains."""

    def train(options: TrainOptions, dry: Annotated[DryRunSettings, Group(title="dry run")]) -> None:
        recipe = _recipe(options, dry, stage)
        if recipe is None:
            return
        module, _, name = home.partition(":")
        result = getattr(import_module(module), name)(recipe)
        from accelerate import PartialState

        if PartialState().is_main_process:
            where = f"see {recipe.run.folder}/model"
            say(f"{result.reason} at step {result.step}, {result.seconds:.0f} s; {where}")

    return train


tokenizer = _command("tokenizer", "earl.training.tokenizer.train:train_tokenizer")
sft = _command("sft", "earl.training.sft.train:train_sft")
dpo = _command("dpo", "earl.training.dpo.train:train_dpo")
grpo = _command("grpo", "earl.training.grpo.train:train_grpo")


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
