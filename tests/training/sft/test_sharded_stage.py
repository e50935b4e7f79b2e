"""SFT with the weights cut over two ranks (FSDP2): what one rank gives, to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from earl.config.sections import Run
from earl.errors import ConfigError
from earl.training import checkpoint
from earl.training.ranks import create_accelerator
from stage_runs import largest_difference, records, run_script, weights

from .conftest import make_recipe, recipe_table
from .test_stages import SCRIPT


def test_two_ranks_with_cut_weights_equal_one(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path / "run")
    table |= {"ranks": {"sharding": "fsdp2"}, "validation": {"every": 3, "sequences": 5}}
    table["batch"]["micro_size"] = 2  # two passes a rank and update: gradients wait for the second
    table["precision"]["gradient_checkpointing"] = True
    table["data"]["validation"] = str(room / "validation")
    assert run_script(tmp_path, SCRIPT, make_recipe(table), ranks=2) == [0, 0]
    last = checkpoint.load_snapshot(tmp_path / "run" / "checkpoints" / "step-00000006")
    assert len(last.state["streams"]) == 2, "there were two ranks, not two runs"
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) < 1e-5
    for two, one in zip(records(tmp_path / "run"), records(plain_run), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
    assert [line["step"] for line in records(tmp_path / "run", "validation")] == [3, 6]


def test_kill_and_resume_with_cut_weights_equals_uninterrupted(room: Path, tmp_path: Path) -> None:
    """Both ranks die in the fourth update; started again, they go on from the second."""
    folders = {name: tmp_path / name for name in ("whole", "killed")}
    for folder in folders.values():
        folder.mkdir()

    def run(name: str, die_at: int = 0) -> list[int]:
        table = recipe_table(room, folders[name] / "run") | {"ranks": {"sharding": "fsdp2"}}
        table |= {"length": {"max_steps": 4}, "ema": {"decay": 0.9}}
        return run_script(folders[name], SCRIPT, make_recipe(table), ranks=2, die_at=die_at)

    assert run("whole") == [0, 0]
    codes = run("killed", die_at=4)  # step 3 done, step 2 saved
    assert all(codes), f"both ranks should have died, they left with {codes}"
    killed = folders["killed"] / "run"
    assert [path.name for path in checkpoint.list_checkpoints(killed / "checkpoints")] == ["step-00000002"]
    assert records(killed)[-1]["step"] == 3
    assert run("killed") == [0, 0]
    whole = folders["whole"] / "run"
    assert largest_difference(weights(killed), weights(whole)) == 0.0
    assert [line["loss"] for line in records(killed)] == [line["loss"] for line in records(whole)]
    last = [folder / "checkpoints" / "step-00000004" for folder in (killed, whole)]
    averages = [load_file(folder / "average.safetensors") for folder in last]
    assert largest_difference(*averages) == 0.0
    states = [checkpoint.load_snapshot(folder) for folder in last]
    assert states[0].state["streams"] == states[1].state["streams"] and len(states[0].state["streams"]) == 2


def test_muon_wants_whole_matrices(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path) | {"ranks": {"sharding": "fsdp2"}}
    table["optimiser"] |= {"name": "muon", "muon_learning_rate": 1e-2}
    with pytest.raises(ConfigError, match=r"ranks\.sharding.*optimiser\.name"):
        make_recipe(table)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"])
def test_accelerates_own_sharding_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError, match=r"ranks\.sharding = 'fsdp2'"):
        create_accelerator(Run(folder="x", device="cpu"))
