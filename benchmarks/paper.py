"""Disk and hours of the paper's data and runs, for docs/paper.md: python -m benchmarks.paper

Shards are measured: made edits of 32 x 32 random codes are written, and their bytes counted. The rest is
arithmetic with the counts of the paper, the parameters of the model, and seconds measured elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from earl.data.shards import Edit, write_shard

COUNTS = {
    "omniedit": 750_000,
    "humanedit": 4_600,
    "magicbrush": 8_700,
    "vismin": 50_000,
    "aurora-kubric": 50_000,
    "aurora-ag": 7_800,
    "something-something-v2": 50_000,
}
PARAMETERS = 8.49e9
GLOBAL_BATCH, MOST_EPOCHS, RL_STEPS = 128, 5, 2_000
RL_HOURS, SFT_HOURS = 48, 60  # as published, 8 and 4 GPUs
GB = 1e9


def bytes_per_edit(edits: int = 256) -> float:
    """Of a shard on disk, with an instruction of 60 letters."""
    draw = np.random.default_rng(0)
    grid = (32, 32)
    made = []
    for number in range(edits):
        source, target = (draw.integers(0, 32_768, grid).astype(np.int32) for _ in range(2))
        words = ("add an edit " * 5, "", "addition", "simple")
        made.append(Edit(f"edit-{number}", f"{number:016x}", source, target, source != target, *words))
    with TemporaryDirectory() as folder:
        shard = write_shard(Path(folder), 0, made, split="train", attached={})
        return sum(path.stat().st_size for path in shard.rglob("*") if path.is_file()) / edits


def main() -> None:
    parser = argparse.ArgumentParser(description="disk and hours of the paper's data and runs")
    parser.add_argument(
        "--seconds", type=float, default=7.2, help="CPU seconds to encode an image of 256 x 256"
    )
    seconds = parser.parse_args().seconds
    each = bytes_per_edit()
    print(f"{each / 1024:.1f} KiB of shards an edit")
    for name, count in {**COUNTS, "all": sum(COUNTS.values())}.items():
        hours = 2 * count * seconds / 3600
        print(f"{name:<24}{count:>9,} edits{each * count / GB:>8.2f} GB{hours:>9,.0f} CPU hours to encode")
    weights, state = 2 * PARAMETERS / GB, 12 * PARAMETERS / GB
    print(f"a model in bfloat16: {weights:.0f} GB")
    print(f"a checkpoint with float32 weights and both moments of AdamW: {state:.0f} GB; two are kept")
    steps = COUNTS["omniedit"] / GLOBAL_BATCH
    print(f"SFT S: {steps:,.0f} steps an epoch, at most {MOST_EPOCHS}; {SFT_HOURS} h as published")
    print(f"RL S+C: {RL_STEPS:,} steps; {RL_HOURS} h as published, {RL_HOURS * 3600 / RL_STEPS:.0f} s a step")


if __name__ == "__main__":
    main()
