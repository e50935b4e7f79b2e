"""`earl train STAGE RECIPE [key=value …]`: the stages of training, one function each.

With more than one process: `accelerate launch -m earl train sft RECIPE`.
"""

from __future__ import annotations

import argparse
from typing import Any

from earl.cli.dry_run import dry_run, memory_size
from earl.cli.options import integer


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a TOML file, such as those under recipes/")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings to change, e.g. run.folder=runs/a batch.micro_size=8",
    )
    parser.add_argument("--show", action="store_true", help="print the resolved recipe and stop")
    group = parser.add_argument_group("dry run")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the recipe and what a step takes (memory, FLOPs), load nothing, refuse what cannot fit",
    )
    group.add_argument(
        "--memory",
        type=memory_size,
        metavar="80GiB",
        help="of a device (default: the GPU's, or the machine's)",
    )
    group.add_argument("--devices", type=integer(1, 65536), help="devices, one rank each")
    group.add_argument("--size", help="the policy's size by name, where model.start is not on this machine")


add_options_tokenizer = add_options_sft = add_options_grpo = add_options


def run_tokenizer(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "tokenizer")
    if recipe is None:
        return 0
    from earl.training.tokenizer.train import train_tokenizer

    return _ended(recipe, train_tokenizer(recipe))


def run_sft(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "sft")
    if recipe is None:
        return 0
    from earl.training.sft.train import train_sft

    return _ended(recipe, train_sft(recipe))


def run_grpo(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "grpo")
    if recipe is None:
        return 0
    from earl.training.grpo.train import train_grpo

    return _ended(recipe, train_grpo(recipe))


def _recipe(options: argparse.Namespace, stage: str) -> Any:
    """The checked recipe; None where it was only to be shown."""
    from earl.config.recipe import recipe_toml
    from earl.config.stages import load_stage

    recipe = load_stage(options.recipe, options.overrides, stage=stage)
    if options.show:
        print(recipe_toml(recipe), end="")
        return None
    if options.dry_run:
        dry_run(recipe, options)
        return None
    return recipe


def _ended(recipe: Any, result: Any) -> int:
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(f"{result.reason} at step {result.step}, {result.seconds:.0f} s; see {recipe.run.folder}/model")
    return 0
