"""Rollouts sampled one step ahead: from which weights, how weighted, resumed, and beside what."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_stand_in import StandIn

from earl.config import SamplingSettings
from earl.config.grpo import importance_cap
from earl.errors import ConfigError, TrainingError
from earl.policy.loading import load_policy
from earl.records import Attempt, Verdict
from earl.sampling.native.engine import NativeEngine
from earl.sequence.tokenizer import TextTokenizer
from earl.training import checkpoint
from earl.training.grpo import logprobs
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.train import train_grpo
from earl.training.grpo.trainer import GrpoTrainer
from stage_runs import largest_difference, run_script, weights

from .test_grpo_runs import SCRIPT
from .tiny import Bright, MeanColour, make_recipe, recipe_table, records


def ahead_table(room: Path, folder: Path, **more: Any) -> dict[str, Any]:
    table = recipe_table(room, folder) | {"length": {"max_steps": 5}, "checkpoint": {"every": 1, "keep": 9}}
    table["rollouts"] |= {"staleness": 1} | more
    return table


def train(table: dict[str, Any], verifier: Any = None) -> Any:
    return train_grpo(make_recipe(table), verifier or Bright(), vision=MeanColour())


@pytest.fixture(scope="module")
def ahead_run(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps, uninterrupted, a checkpoint of each."""
    folder = tmp_path_factory.mktemp("ahead") / "run"
    train(ahead_table(room, folder))
    return folder


def test_rollouts_come_from_the_weights_of_one_update_before(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = Sampler.requests

    def requests(sampler: Sampler, *given: Any) -> Any:
        asked.append(real(sampler, *given))
        return asked[-1]

    monkeypatch.setattr(Sampler, "requests", requests)
    train(ahead_table(room, tmp_path))
    assert len(asked) == 5, "the last step begins none"
    steps = [load(tmp_path, step) for step in range(1, 6)]
    tokenizer = TextTokenizer.from_folder(room / "model")
    for step in (2, 3, 4):  # its checkpoint holds what step + 1 trains on
        held = steps[step - 1].state["batches"]["ahead"]
        for other, equal in ((step - 1, True), (step, False)):
            policy = load_policy(room / "model" / "policy")
            names = {name.removeprefix("policy."): t for name, t in steps[other - 1].tensors["model"].items()}
            policy.load_state_dict(names, strict=False)
            assert names.keys() <= policy.state_dict().keys()
            drawn = NativeEngine(policy, tokenizer).generate(asked[step], SamplingSettings(top_k=0))
            same = [[list(one.logprobs) for one in group] for group in drawn] == [
                [one["logprobs"] for one in group] for group in held
            ]
            assert same == equal, (step, other)
    assert "ahead" not in steps[-1].state["batches"]


def load(folder: Path, step: int) -> checkpoint.Snapshot:
    return checkpoint.load_snapshot(checkpoint.checkpoint_path(folder / "checkpoints", step))


def test_importance_weights_are_of_the_update_between(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[torch.Tensor, float]] = []
    real = logprobs.importance_weights

    def watched(trainer_BT: torch.Tensor, sampler_BT: torch.Tensor, cap: float) -> torch.Tensor:
        used.append((real(trainer_BT, sampler_BT, cap), cap))
        return used[-1][0]

    monkeypatch.setattr(logprobs, "importance_weights", watched)
    table = ahead_table(room, tmp_path) | {"length": {"max_steps": 3}}
    train(table)
    rows = records(tmp_path)
    assert rows[0]["sampler_gap"] < 1e-5 < 1e-3 < rows[1]["sampler_gap"]
    (first, cap), (second, _) = used[0], used[-1]
    assert cap == 2.0 and (first - 1).abs().max() < 1e-4 < 1e-3 < (second - 1).abs().max()
    table["rollouts"]["staleness"] = 0
    recipe = make_recipe(table)
    assert importance_cap(recipe.grpo, recipe.rollouts) is None, "where they are the same weights, none"


def test_a_killed_run_resumes_with_the_rollouts_that_it_had(
    ahead_run: Path, room: Path, tmp_path: Path
) -> None:
    table = ahead_table(room, tmp_path / "run")
    assert run_script(tmp_path, SCRIPT, make_recipe(table), die_at=4) == [-9]
    train(table)
    assert largest_difference(weights(tmp_path / "run"), weights(ahead_run)) == 0.0
    again, before = records(tmp_path / "run"), records(ahead_run)
    assert [row["reward"] for row in again] == [row["reward"] for row in before]
    assert [row["sampler_gap"] for row in again] == [row["sampler_gap"] for row in before]


def test_two_ranks_sample_ahead_as_one_does(ahead_run: Path, room: Path, tmp_path: Path) -> None:
    assert run_script(tmp_path, SCRIPT, make_recipe(ahead_table(room, tmp_path / "run")), ranks=2) == [0, 0]
    assert largest_difference(weights(tmp_path / "run"), weights(ahead_run)) < 1e-5


def test_a_step_that_fails_keeps_its_own_rollouts(ahead_run: Path, room: Path, tmp_path: Path) -> None:
    class Dead(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            return super().verdict(attempt) if self.calls <= 2 * 4 else Verdict("unreachable")

    table = ahead_table(room, tmp_path)
    with pytest.raises(TrainingError, match="step 2 is saved"):
        train(table, Dead())
    train(table)
    assert largest_difference(weights(tmp_path), weights(ahead_run)) == 0.0


def test_a_server_samples_while_verdicts_and_the_update_are_awaited(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 1's verdicts wait until the server was asked for all of step 2, which it answers only after the
    update: in turn, one of them would wait for ever."""
    house = StandIn(load_policy(room / "model" / "policy"), TextTokenizer.from_folder(room / "model"))
    asked, updated = threading.Event(), threading.Event()
    late: list[bool] = []
    generate = NativeEngine.generate

    def gated(engine: NativeEngine, *given: Any, **more: Any) -> Any:
        if len(house.completions) > 16:
            asked.set()
            late.append(updated.wait(60))
        return generate(engine, *given, **more)

    class Waiting(Bright):
        async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
            late.append(asked.wait(60))
            return await super().judge(attempts)

    update = GrpoTrainer._update

    def watched(trainer: GrpoTrainer, batches: Any) -> None:
        update(trainer, batches)
        updated.set()

    monkeypatch.setattr(NativeEngine, "generate", gated)
    monkeypatch.setattr(GrpoTrainer, "_update", watched)
    more = {"engine": "vllm-server", "server": house.url, "server_weights": str(tmp_path / "weights")}
    table = ahead_table(room, tmp_path / "run", **more) | {"length": {"max_steps": 2}}
    try:
        train(table, Waiting())
    finally:
        house.close()
    assert len(late) > 8 and all(late)
    assert len(house.completions) == 2 * 16, "no step is sampled twice"
    rows = records(tmp_path / "run")
    assert rows[0]["sampler_gap"] < 1e-3 < rows[1]["sampler_gap"], "step 2's were sampled before the update"


def test_what_cannot_be_weighted_is_refused(room: Path) -> None:
    for grpo in ({"mirror_release": True}, {"score_cut": True}):
        with pytest.raises(ConfigError, match=f"{next(iter(grpo))}.*staleness"):
            make_recipe(ahead_table(room, room) | {"grpo": grpo})
