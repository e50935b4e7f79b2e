"""Reinforcement with the weights cut over two ranks (FSDP2): gathered to sample, cut to train."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from earl.training import checkpoint
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
    table["batch"]["micro_size"] = 4  # two groups a rank, one in a pass
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


def test_kill_and_resume_with_cut_weights_equals_uninterrupted(room: Path, tmp_path: Path) -> None:
    """Both ranks die in the fourth step; started again, they go on from the second, bit for bit."""
    folders = {name: tmp_path / name for name in ("whole", "killed")}
    for folder in folders.values():
        folder.mkdir()

    def run(name: str, die_at: int = 0) -> list[int]:
        table = recipe_table(room, folders[name] / "run") | {"ranks": {"sharding": "fsdp2"}}
        table["batch"]["micro_size"] = 4
        table |= {"length": {"max_steps": 4}, "heldout": {"prompts": 3}, "validation": {"every": 2}}
        table |= {"grpo": {"kl_coefficient": 0.1}, "ema": {"decay": 0.9}}
        return run_script(folders[name], SCRIPT, make_recipe(table), ranks=2, die_at=die_at)

    assert run("whole") == [0, 0]
    codes = run("killed", die_at=4)  # step 3 done, step 2 saved
    assert all(codes), f"both ranks should have died, they left with {codes}"
    assert -signal.SIGKILL in codes
    whole, killed = (folder / "run" for folder in folders.values())
    assert [path.name for path in checkpoint.list_checkpoints(killed / "checkpoints")] == ["step-00000002"]
    assert records(killed)[-1]["step"] == 3
    assert run("killed") == [0, 0]
    assert largest_difference(weights(killed), weights(whole)) == 0.0
    last = [checkpoint.load_snapshot(run / "checkpoints" / "step-00000004") for run in (whole, killed)]
    assert last[0].tensors.keys() == last[1].tensors.keys() >= {"model", "optimiser", "average"}
    for name, tensors in last[0].tensors.items():
        assert largest_difference(tensors, last[1].tensors[name]) == 0.0, name
    # "since" holds the step of the last record, and seconds
    states = [dict(one.state) | {"since": one.state["since"][0]} for one in last]
    assert states[0] == states[1] and len(states[0]["streams"]) == 2
    told = ("step", "reward", "loss", "kl", "gradient_norm", "entropy_visual")
    for split in ("train", "validation"):
        one, other = (
            [[line.get(name) for name in told] for line in records(run, split)] for run in (whole, killed)
        )
        assert one == other and len(one) == {"train": 4, "validation": 3}[split]
    assert records(whole)[-1]["kl"] > 0, "the policy has left its reference"


def test_ranks_with_fewer_groups_or_held_out_prompts_take_the_same_passes(room: Path, tmp_path: Path) -> None:
    """Three of four groups are usable, two on one rank and one on the other; one prompt is held out."""
    fails = "Flaky(lambda seen: os.environ['RANK'] == '0' and seen % 8 in (2, 3, 4))"
    script = SCRIPT.replace("Bright()", fails).replace("import Bright", "import Flaky")
    table = recipe_table(room, tmp_path / "run") | {"ranks": {"sharding": "fsdp2"}}
    table["batch"]["micro_size"] = 4  # one group in a pass
    table |= {"length": {"max_steps": 2}, "heldout": {"prompts": 1}}
    assert run_script(tmp_path, script, make_recipe(table), ranks=2) == [0, 0]
    assert [line["groups"] for line in records(tmp_path / "run")] == [3.0, 3.0]
