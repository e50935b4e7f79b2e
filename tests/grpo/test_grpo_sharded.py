"""Reinforcement with the weights cut over two ranks (FSDP2): gathered to sample, cut to train."""

from __future__ import annotations

from pathlib import Path

import pytest

from stage_runs import largest_difference, run_script, weights

from .test_grpo_runs import SCRIPT, plain_run, records
from .tiny import make_recipe, recipe_table

__all__ = ["plain_run"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_ranks_with_cut_weights_equal_one(
    plain_run: Path, room: Path, tmp_path: Path, checkpointing: bool
) -> None:
    table = recipe_table(room, tmp_path / "run") | {"ranks": {"sharding": "fsdp2"}}
    table["precision"]["gradient_checkpointing"] = checkpointing
    table["batch"]["micro"] = 4  # two groups a rank, one in a pass
    table |= {
        "heldout": {"prompts": 3},
        "validation": {"every": 3},
    }  # two prompts for one rank, one for the other
    assert run_script(tmp_path, SCRIPT, make_recipe(table), ranks=2) == [0, 0]
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) < 1e-5
    for two, one in zip(records(tmp_path / "run"), records(plain_run), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
        assert two["reward"] == one["reward"]
    assert [line["step"] for line in records(tmp_path / "run", "validation")] == [0, 3, 6]
