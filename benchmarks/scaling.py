"""RL steps that one H200, one node and four nodes take in a day, computed: nothing here was measured by us.

    python -m benchmarks.scaling

FLOPs and lengths are the dry run's (`earl train grpo RECIPE --dry-run`). Peaks are NVIDIA's for an H200 (989
TFLOP/s dense bfloat16, 4.8 TB/s); the shares of them that a run reaches are assumptions, and options. A step
of sampling reads all weights and, in the mean, half of the completions' cache once for each id. Judging and
decoding are taken to hide behind sampling, which holds where the judges have GPUs of their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from earl.config.stages import GrpoRecipe, load_stage
from earl.models.shapes import EMU3
from earl.training.estimate import estimate

RECIPES = Path(__file__).parents[1] / "recipes" / "emu3"
PEAK_FLOPS, PEAK_BYTES, DAY = 989e12, 4.8e12, 86_400
# (where, recipe, GPUs that train, GPUs that sample, whether these are the same)
PLANS = (
    ("one H200", "one-gpu.toml", 1, 1, True),
    ("one node of 8: 4 train, 2 sample, 2 judge", "grpo.toml", 4, 2, False),
    ("four nodes of 8: 16 train, 8 sample, 8 judge", "grpo.toml", 16, 8, False),
)


def parts(
    recipe: GrpoRecipe, training: int, sampling: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of a step: sampling, and reference with update."""
    found = estimate(recipe, EMU3, device="cuda")
    rollouts, group = recipe.batch.global_size, recipe.rollouts.group
    each = rollouts / sampling
    cache = EMU3.cache_bytes(each * found.lengths.completion / 2 + each / group * found.lengths.prompt)
    read = found.lengths.completion * (EMU3.weight_bytes("bfloat16") + cache)
    flops = found.flops["training"] + found.flops["reference"]
    return (
        read / (PEAK_BYTES * options.bandwidth) + found.flops["sampling"] / (PEAK_FLOPS * sampling),
        flops / (PEAK_FLOPS * options.flops * training),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flops", type=float, default=0.35, help="share of the peak in training (assumed)")
    parser.add_argument("--bandwidth", type=float, default=0.5, help="share in sampling (assumed)")
    options = parser.parse_args(arguments)
    for where, name, training, sampling, same in PLANS:
        recipe = load_stage(RECIPES / name)
        assert isinstance(recipe, GrpoRecipe)
        sample, update = parts(recipe, training, sampling, options)
        step = sample + update  # the next step samples from the weights of this one
        ahead = max(sample, update)
        rollouts = recipe.batch.global_size
        print(
            f"{where}: sampling {sample:.0f} s, reference and update {update:.0f} s, {step:.0f} s a step of"
        )
        print(
            f"  {rollouts} rollouts; {DAY / step:,.0f} steps and {DAY / step * rollouts:,.0f} rollouts a day"
        )
        if not same:
            print(
                f"  idle: {update / step:.0%} of the time on GPUs that sample, {sample / step:.0%} on others"
            )
            print(
                f"  with rollouts.staleness = 1: {ahead:.0f} s a step, {DAY / ahead:,.0f} steps a day, idle: "
                f"{1 - sample / ahead:.0%} and {1 - update / ahead:.0%}"
            )


if __name__ == "__main__":
    main()
