"""`earl train STAGE RECIPE [key=value …]`: the stages of training, one function each.

With more than one process: `accelerate launch -m earl train sft RECIPE`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from earl.cli.dry_run import dry_run, memory_size
from earl.cli.options import integer

if TYPE_CHECKING:
    from earl.config.stages import SftRecipe


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a TOML file, such as those under recipes/")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings to change, e.g. run.folder=runs/a batch.micro=8",
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


add_options_tokenizer = add_options_base = add_options_sft = add_options_grpo = add_options


def run_tokenizer(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "tokenizer")
    if recipe is None:
        return 0
    from earl.training.tokenizer.stage import train_tokenizer

    return _ended(recipe, train_tokenizer(recipe))


def run_base(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "base")
    if recipe is None:
        return 0
    from earl.training.sft.base import train_base

    return _ended(recipe, train_base(recipe))


def run_sft(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "sft")
    if recipe is None:
        return 0
    from earl.training.sft.sft import train_sft

    return _ended(recipe, train_sft(recipe, measure_edits=_measure_edits(recipe)))


def run_grpo(options: argparse.Namespace) -> int:
    recipe = _recipe(options, "grpo")
    if recipe is None:
        return 0
    from earl.training.grpo.stage import train_grpo

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


def _ended(recipe: Any, report: Any) -> int:
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(f"{report.reason} at step {report.step}, {report.seconds:.0f} s; see {recipe.run.folder}/model")
    return 0


def _measure_edits(recipe: SftRecipe):
    """Samples and judges edits of the validation split; None where the recipe asks for none."""
    if not recipe.validation.edits:
        return None
    from earl.errors import ConfigError

    start = recipe.model.vision_tokenizer or recipe.model.start
    if start is None:
        raise ConfigError("validation.edits needs model.vision_tokenizer: edits are judged as images")
    return _Measure(start, recipe.model.text_tokenizer or recipe.model.start, recipe.model.area)


class _Measure:
    """`earl.training.sft.sft.MeasureEdits`: the world benchmark on a policy that is in training."""

    def __init__(self, vision: str, text: str | None, area: int | None) -> None:
        from earl.models.resolve import resolve_model
        from earl.sequence import TextTokenizer
        from earl.vision import load_vision_tokenizer

        assert text is not None, "the recipe's check guarantees a start or a text tokenizer"
        self.tokenizer = TextTokenizer.from_folder(
            resolve_model(text, parts=("tokenizer",)).need("tokenizer")
        )
        self.vision = load_vision_tokenizer(vision)

    def __call__(self, policy: Any, count: int) -> dict[str, float]:
        from earl.config import BenchmarkSettings, VerifierSettings
        from earl.evaluation import Judging, open_benchmark
        from earl.evaluation.run import measure
        from earl.pipeline import build_pipeline

        training = policy.training
        policy.eval()
        try:
            pipeline = build_pipeline(policy=policy, tokenizer=self.tokenizer, vision=self.vision)
            asked = BenchmarkSettings(draw=count, split="validation")
            benchmark = open_benchmark("world", asked, area=self.vision.area)
            return measure(pipeline, benchmark, Judging.of_settings(VerifierSettings(kind="scene")))
        finally:
            policy.train(training)
