"""Reinforcement learning whose rollouts two servers sample, one of which dies in mid-round."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm_stand_in import StandIn

from earl.errors import TrainingError
from earl.policy.loading import load_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.training.grpo.train import train_grpo
from stage_runs import largest_difference, run_script, weights

from .test_grpo_runs import SCRIPT
from .tiny import Bright, MeanColour, make_recipe, recipe_table, records


def test_a_run_goes_on_with_the_server_that_is_left(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = load_policy(room / "model" / "policy")
    houses = [StandIn(policy, TextTokenizer.from_folder(room / "model")) for _ in range(2)]
    houses[0].dies_at = 3
    table = recipe_table(room, tmp_path / "run")
    table |= {"length": {"max_steps": 2}, "batch": {"global_size": 8, "micro_size": 8}}
    table["rollouts"] |= {
        "engine": "vllm-server",
        "servers": [house.url for house in houses],
        "server_weights": str(tmp_path / "weights"),
        "max_batch": 4,
    }
    try:
        assert train_grpo(make_recipe(table), Bright(), vision=MeanColour()).step == 2
    finally:
        houses[1].close()
    rows = [row for row in records(tmp_path / "run") if "servers_out" in row]
    assert [row["servers_out"] for row in rows] == [1.0, 1.0]
    assert all(row["failed"] == 0 for row in rows)
    assert len(houses[1].completions) >= 8 + 8 - 2, "it took over what the other was asked"
    # The server samples from the weights of the step: after one update it is the policy itself again.
    assert rows[1]["sampler_gap"] == pytest.approx(0, abs=1e-3)
    said = capsys.readouterr()
    assert f"step 1: without {houses[0].url}" in said.out + said.err


@pytest.mark.parametrize("staleness", [0, 1])
def test_where_no_server_is_left_the_step_before_is_saved(staleness: int, room: Path, tmp_path: Path) -> None:
    house = StandIn(load_policy(room / "model" / "policy"), TextTokenizer.from_folder(room / "model"))
    house.dies_at = 8 + 3
    table = recipe_table(room, tmp_path / "run") | {"checkpoint": {"every": 9, "keep": 9}}
    table |= {"length": {"max_steps": 3}, "batch": {"global_size": 8, "micro_size": 8}}
    table["rollouts"] |= {
        "engine": "vllm-server",
        "server": house.url,
        "server_weights": str(tmp_path / "weights"),
        "staleness": staleness,
    }
    with pytest.raises(TrainingError, match=r"step 2: no vLLM server at .*; step 1 is saved"):
        train_grpo(make_recipe(table), Bright(), vision=MeanColour())
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]


@pytest.mark.parametrize(("staleness", "sharding"), [(0, "fsdp2"), (1, "none")])
def test_two_ranks_sample_on_one_server_as_one_does(
    staleness: int, sharding: str, room: Path, tmp_path: Path
) -> None:
    """With one held-out prompt, so that the second rank asks for none then."""
    house = StandIn(load_policy(room / "model" / "policy"), TextTokenizer.from_folder(room / "model"))
    table = recipe_table(room, tmp_path / "two") | {"length": {"max_steps": 3}, "heldout": {"prompts": 1}}
    table["rollouts"] |= {"engine": "vllm-server", "server": house.url, "staleness": staleness}
    table["rollouts"]["server_weights"] = str(tmp_path / "weights")
    table |= {"ranks": {"sharding": sharding}}
    try:
        assert run_script(tmp_path, SCRIPT, make_recipe(table), ranks=2) == [0, 0]
        assert len(house.completions) == 3 * 16 + 2, "each completion is asked for once"
        table["run"] |= {"folder": str(tmp_path / "one")}
        train_grpo(make_recipe(table), Bright(), vision=MeanColour())
    finally:
        house.close()
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5
    for two, one in zip(records(tmp_path / "two"), records(tmp_path / "one"), strict=True):
        assert two["reward"] == pytest.approx(one["reward"], abs=1e-6)


def test_two_ranks_stop_together_where_no_server_is_left(room: Path, tmp_path: Path) -> None:
    house = StandIn(load_policy(room / "model" / "policy"), TextTokenizer.from_folder(room / "model"))
    house.dies_at = 16 + 3
    table = recipe_table(room, tmp_path / "run") | {"checkpoint": {"every": 9, "keep": 9}}
    table["rollouts"] |= {"engine": "vllm-server", "server": house.url}
    table["rollouts"]["server_weights"] = str(tmp_path / "weights")
    assert run_script(tmp_path, SCRIPT, make_recipe(table), ranks=2) == [1, 1]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]
