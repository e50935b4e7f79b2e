"""GRPO from recipe to model folder, in a tiny world: learning, resuming, ranks, stopping, failing."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from earl.config.grpo import Rollouts, cut_warning
from earl.config.recipe import load_recipe
from earl.config.stages import GrpoRecipe
from earl.errors import ConfigError, InstructionError, Interrupted, TrainingError
from earl.policy.loading import load_policy
from earl.records import Attempt, Verdict
from earl.training import checkpoint
from earl.training.grpo.train import train_grpo
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import save_vision_tokenizer
from stage_runs import largest_difference, run_script, weights

from .tiny import Bright, Flaky, Hanging, MeanColour, make_recipe, recipe_table, records, train

# Runs a recipe; with DIE_AT the process kills itself in the middle of that step.
SCRIPT = """
import os, signal, sys
from earl.config.recipe import load_recipe
from earl.config.stages import GrpoRecipe
from earl.training.grpo.train import train_grpo
from earl.training.grpo.trainer import GrpoTrainer
from training.grpo.tiny import Bright, MeanColour

die_at, batches = int(os.environ.get("DIE_AT", 0)), GrpoTrainer._batches
def maybe_die(trainer, groups):
    if trainer.step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return batches(trainer, groups)
GrpoTrainer._batches = maybe_die
train_grpo(load_recipe(GrpoRecipe, sys.argv[1]), Bright(), vision=MeanColour())
"""


@pytest.fixture(scope="module")
def plain_run(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of the standard table, uninterrupted, on one rank."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(recipe_table(room, folder))
    return folder


def test_a_run_leaves_a_model_a_log_and_its_recipe(plain_run: Path, room: Path) -> None:
    lines = records(plain_run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    named = "reward edit_success over_editing naturalness artifacts kl entropy_visual zero_variance failed "
    named += "dropped_groups seconds_sampling seconds_decoding seconds_judging seconds_updating "
    named += "sampler_gap sampler_ratio clipped repeated groups gradient_norm loss"
    assert not set(named.split()) - lines[0].keys()
    assert lines[0]["kl"] == 0.0 and lines[-1]["kl"] > 0
    assert lines[0]["sampler_gap"] < 1e-5, "the trainer scores what the engine sampled"
    assert lines[0]["sampler_ratio"] == pytest.approx(1, abs=1e-5)
    assert 3 < lines[0]["entropy_visual"] < 4.16, "a random policy over 64 codes: below ln 64"
    assert load_policy(plain_run / "model") is not None
    assert load_recipe(GrpoRecipe, plain_run / "recipe.toml") == make_recipe(recipe_table(room, plain_run))


def test_the_reward_rises(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table |= {
        "length": {"max_steps": 15},
        "batch": {"global_size": 64, "micro_size": 64},
        "rollouts": {"group": 8},
    }
    train(table)
    rewards = [line["reward"] for line in records(tmp_path)]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5


def test_kill_and_resume_equals_uninterrupted(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path / "run")
    assert run_script(tmp_path, SCRIPT, make_recipe(table), die_at=6) == [-9]  # step 5 done, step 4 saved
    assert [line["step"] for line in records(tmp_path / "run")][-1] == 5
    train(table)
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) == 0.0
    again, before = records(tmp_path / "run"), records(plain_run)
    assert [line["reward"] for line in again] == [line["reward"] for line in before]


def test_two_ranks_equal_one(plain_run: Path, room: Path, tmp_path: Path) -> None:
    recipe = make_recipe(recipe_table(room, tmp_path / "run"))
    assert run_script(tmp_path, SCRIPT, recipe, ranks=2) == [0, 0]
    last = checkpoint.load_snapshot(tmp_path / "run" / "checkpoints" / "step-00000006")
    assert len(last.state["streams"]) == 2, "there were two ranks, not two runs"
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) < 1e-5
    for two, one in zip(records(tmp_path / "run"), records(plain_run), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
        assert two["reward"] == one["reward"]


@pytest.mark.parametrize("change", ["micro", "gradient_checkpointing"])
def test_how_it_is_computed_does_not_change_the_update(
    change: str, plain_run: Path, room: Path, tmp_path: Path
) -> None:
    table = recipe_table(room, tmp_path)
    if change == "micro":
        table["batch"]["micro_size"] = 4
    else:
        table["precision"]["gradient_checkpointing"] = True
    train(table)
    assert largest_difference(weights(tmp_path), weights(plain_run)) < 1e-5


VARIANTS = {
    "several updates": {"updates": 2, "clip": 0.1},
    "dr grpo": {"divide_by_std": False},
    "importance": {"importance_cap": 2.0},
    "importance range": {"importance_range": [0.2, 5.0]},
    "no reference": {"kl_coefficient": 0.0},
    "reference on cpu": {"reference_device": "cpu"},
    "mirror": {"mirror_release": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_setting_runs(name: str, plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table |= {"length": {"max_steps": 2}, "grpo": VARIANTS[name]}
    train(table)
    lines = records(tmp_path)
    assert all(isinstance(line["loss"], float) for line in lines)
    first = records(plain_run)[0]
    assert lines[0]["reward"] == first["reward"], "the first rollouts are those of the plain run"
    if name == "importance range":
        assert lines[0]["disagreed"] == 0, "the engine is ours and computes in float32"
    if name in ("importance", "importance range", "reference on cpu"):  # of no effect here
        assert lines[1]["reward"] == pytest.approx(records(plain_run)[1]["reward"], abs=1e-6)
    if "updates" in VARIANTS[name]:
        assert lines[1]["reward"] != records(plain_run)[1]["reward"]


@pytest.mark.parametrize("lora", [False, True])
def test_neighbours_in_the_codebook_share_gradients(
    lora: bool, plain_run: Path, room: Path, tmp_path: Path
) -> None:
    vision = create_vision_tokenizer(seed=0, base_channels=32, channel_multiplier=(1, 1), codebook_size=64)
    save_vision_tokenizer(vision, tmp_path / "vision", area=1024)
    table = recipe_table(room, tmp_path / "run")
    table["model"]["vision_tokenizer"] = str(tmp_path / "vision")
    table |= {"length": {"max_steps": 2}, "neighbour_smoothing": {"neighbours": 4, "targets": 0.9}}
    if lora:
        table["lora"] = {"rank": 2}
    train(table)
    ours, theirs = records(tmp_path / "run"), records(plain_run)
    assert ours[0]["reward"] == theirs[0]["reward"], "the first rollouts are those of the plain run"
    assert ours[0]["entropy_visual"] == theirs[0]["entropy_visual"] or lora
    assert 0 < ours[0]["gradient_norm"] < theirs[0]["gradient_norm"]


@pytest.mark.parametrize("prefill", ["direct", "reasoning"])
def test_completions_that_are_no_image_leave_their_group(prefill: str, room: Path, tmp_path: Path) -> None:
    """A random policy hardly ever writes a whole size: nothing can be judged, and that is said."""
    table = recipe_table(room, tmp_path)
    table["rollouts"] |= {"prefill": prefill, "max_text_tokens": 8, "source_grid": False}
    with pytest.raises(TrainingError, match=r"not one group.*step 0 is saved"):
        train(table)
    table["judging"]["undecodable_reward"] = 0.0  # as published
    table["length"]["max_steps"] = 1
    with pytest.raises(ConfigError, match=r"_reward = 0\.0, and the run .* made without it.*run\.folder$"):
        train(table)
    table["run"]["folder"] = str(tmp_path / "other")
    train(table)
    assert records(tmp_path / "other")[0]["failed"] == 0.0


def test_lora_leaves_the_base_alone(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["lora"] = {"rank": 2, "targets": ["q_proj", "down_proj"]}
    train(table)
    saved = load_file(tmp_path / "checkpoints" / "step-00000006" / "model.safetensors")
    assert saved and all("lora" in name for name in saved)
    lines = records(tmp_path)
    assert lines[0]["kl"] == 0.0 < lines[-1]["kl"], "the adapter off is the reference"
    assert (tmp_path / "model" / "adapter").is_dir()


def test_a_killed_lora_run_ends_with_the_same_adapter(room: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of step 4; the checkpoint of step 2 is the last one."""
    for name in ("whole", "killed"):
        table = recipe_table(room, tmp_path / name) | {"length": {"max_steps": 5}}
        table["lora"] = {"rank": 2, "targets": ["q_proj", "down_proj"]}
        if name == "killed":
            assert run_script(tmp_path, SCRIPT, make_recipe(table), die_at=4) == [-9]
            assert [line["step"] for line in records(tmp_path / name)][-1] == 3
        train(table)
    files = ("model/adapter/adapter_model.safetensors", "checkpoints/step-00000005/optimiser.safetensors")
    for file in files:
        whole, killed = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert whole and any(tensor.abs().sum() > 0 for key, tensor in whole.items() if "lora_B" in key)
        assert largest_difference(whole, killed) == 0.0, file
    rewards = [[line["reward"] for line in records(tmp_path / name)] for name in ("whole", "killed")]
    assert rewards[0] == rewards[1] and len(rewards[0]) == 5


# --- verifiers that fail ---


def test_a_few_failed_verdicts_leave_their_groups(room: Path, tmp_path: Path) -> None:
    verifier = Flaky(lambda seen: seen % 16 in (1, 2, 3))  # three of the first group of four
    train(recipe_table(room, tmp_path), verifier)
    for line in records(tmp_path):
        assert line["failed"] == 3 / 16 and line["dropped_groups"] == 1 / 4 and line["groups"] == 3


def test_an_outage_is_waited_out(room: Path, tmp_path: Path, plain_run: Path) -> None:
    verifier = Flaky(lambda seen: seen <= 16, "unusable")
    table = recipe_table(room, tmp_path)
    train(table, verifier)
    assert verifier.seen == 16 * 7
    assert largest_difference(weights(tmp_path), weights(plain_run)) == 0.0, "the same verdicts in the end"


def test_a_dead_verifier_stops_with_a_sentence_and_a_checkpoint(
    room: Path, tmp_path: Path, plain_run: Path
) -> None:
    verifier = Flaky(lambda seen: seen > 3 * 16)
    with pytest.raises(
        TrainingError, match=r"step 4: 16 of 16 .*3 times.*unreachable: HTTP 503.*step 3 is saved"
    ):
        train(recipe_table(room, tmp_path), verifier)
    saved = checkpoint.load_snapshot(tmp_path / "checkpoints" / "step-00000003")
    assert saved.step == 3
    train(recipe_table(room, tmp_path))
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_hanging_verifier_is_unreachable(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["judging"] |= {"deadline": 0.1, "retries": 0}
    with pytest.raises(TrainingError, match=r"unreachable: no answer in 0.1 s"):
        train(table, Hanging())


def test_a_reward_that_is_no_number_stops(room: Path, tmp_path: Path) -> None:
    class Nan(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            return Verdict("ok", float("nan"), 10.0, 10.0, 10.0)

    with pytest.raises(TrainingError, match=r"step 1: .*nan.*step 0 is saved"):
        train(recipe_table(room, tmp_path), Nan())


def test_judging_begins_before_sampling_ends(room: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Watching(Bright):
        async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
            seen.append(attempts[0].key)
            return await super().judge(attempts)

    table = recipe_table(room, tmp_path)
    table |= {"length": {"max_steps": 1}, "rollouts": {"group": 4, "max_batch": 4}}
    decoded: list[int] = []

    class Watched(MeanColour):
        def decode(self, codes):
            decoded.append(len(seen))
            return super().decode(codes)

    train_grpo(make_recipe(table), Watching(), vision=Watched())
    assert len(seen) == len(decoded) == 4
    assert decoded[-1] >= 1, "an earlier group was with the verifier when the last one was decoded"


def test_a_verifier_that_refuses_every_attempt_is_asked_once(room: Path, tmp_path: Path) -> None:
    """One in this process that cannot read the instruction, say: asking again would not change that."""

    class Refusing(Bright):
        async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
            self.calls += len(attempts) == 1
            raise InstructionError("no such edit")

    table, verifier = recipe_table(room, tmp_path), Refusing()
    table["judging"] |= {"wait": 60.0}
    with pytest.raises(TrainingError, match=r"16 of 16 .*asked once .*no such edit.*refuses every one"):
        train(table, verifier)
    assert verifier.calls == 16


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_verifier_is_silent_ends_the_run_at_the_step_before(
    number: signal.Signals, room: Path, tmp_path: Path, plain_run: Path
) -> None:
    class Silent(Bright):
        async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
            if self.calls == 2 * 4:
                os.kill(os.getpid(), number)
                await asyncio.sleep(600)
            return await super().judge(attempts)

    began = time.monotonic()
    with pytest.raises(Interrupted, match=r"in step 3; step 2 is saved in .*goes on from there") as ended:
        train(recipe_table(room, tmp_path), Silent())
    assert ended.value.exit_code == 128 + number and time.monotonic() - began < 120
    assert not (tmp_path / "model").exists()
    train(recipe_table(room, tmp_path))
    assert largest_difference(weights(tmp_path), weights(plain_run)) == 0.0


def test_a_sampler_that_cuts_candidates_off_is_warned_of(room: Path) -> None:
    """Its log-probabilities are of what is left, the trainer's of all ids."""

    def warned(cut: bool = False, **rollouts: Any) -> str:
        table = recipe_table(room, room) | {"grpo": {"score_cut": cut}}
        recipe = make_recipe(table | {"rollouts": {"group": 4, **rollouts}})
        return cut_warning(recipe.grpo, recipe.rollouts, 64)

    assert Rollouts().top_k == 0 and warned() == "" == warned(top_k=64)
    for engine in ("earl", "vllm"):
        for cut in ({"top_k": 20}, {"top_p": 0.8}):
            said = warned(engine=engine, **cut)
            assert "rollouts.top_k=0" in said and "grpo.score_cut=true" in said
            assert ("importance weights" in said) == (engine == "vllm")
            assert warned(True, engine=engine, **cut) == ""
    with pytest.raises(ConfigError, match="score_cut"):
        table = recipe_table(room, room) | {"grpo": {"score_cut": True, "importance_cap": 2.0}}
        make_recipe(table)


def test_scoring_under_the_cut_and_averaging_by_rollout_train(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path) | {"length": {"max_steps": 2}}
    table["rollouts"] = {"group": 4, "top_k": 3}
    table["grpo"] = {"score_cut": True, "average": "sequence"}
    train(table)
    for line in records(tmp_path):
        assert line["entropy_visual"] <= math.log(4), "of three ids that stay, and the one drawn"
        assert math.isfinite(line["gradient_norm"]) and line["gradient_norm"] > 0


class Level(Bright):
    """Every edit is equally good."""

    def verdict(self, attempt: Attempt) -> Verdict:
        return Verdict("ok", 5.0, 5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"max_kl": 1e-9}, "early_stopping.max_kl"), ({"window": 1, "patience": 1}, "no better than")],
)
def test_early_stopping_ends_a_run_with_a_checkpoint(
    settings: dict[str, float], sentence: str, room: Path, tmp_path: Path
) -> None:
    verifier = Level() if "patience" in settings else Bright()
    table = recipe_table(room, tmp_path) | {"early_stopping": settings}
    result = train(table, verifier)
    assert sentence in result.reason and result.step < 6
    assert checkpoint.list_checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{result.step:08d}"
    assert (tmp_path / "model" / "earl.json").is_file()
    if "patience" in settings:
        assert train(table, verifier).step == result.step, "a run that has ended does not go on"


def test_a_loss_that_is_no_number_stops_with_a_checkpoint(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earl.training.grpo.logprobs import GrpoObjective

    score, calls = GrpoObjective.score, []

    def breaks(self, policy, batch, **more):
        calls.append(1)
        logprobs, entropy = score(self, policy, batch, **more)
        return (logprobs * float("nan"), entropy) if len(calls) > 8 else (logprobs, entropy)

    monkeypatch.setattr(GrpoObjective, "score", breaks)
    with pytest.raises(TrainingError, match=r"the gradient of step 3 is nan.*intact"):
        train(recipe_table(room, tmp_path))
    saved = checkpoint.load_snapshot(tmp_path / "checkpoints" / "step-00000002")
    assert all(tensor.isfinite().all() for tensor in saved.tensors["model"].values())


def test_held_out_prompts_are_judged_by_a_second_verifier(room: Path, tmp_path: Path) -> None:
    class Stern(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            return Verdict("ok", 1.0, 1.0, 1.0, 1.0)

    table = recipe_table(room, tmp_path)
    table |= {"validation": {"every": 3}, "heldout": {"prompts": 5}}
    train(table, second=Stern())
    lines = records(tmp_path, "validation")
    assert [line["step"] for line in lines] == [0, 3, 6]
    for line in lines:
        assert line["judged"] == 1.0 and line["second"] == 1.0
        assert line["second_gap"] == pytest.approx(line["overall"] - 1.0)
        assert {"drift", "edit_success", "artifacts"} <= line.keys()
    assert (tmp_path / "images" / "heldout-00000006.png").is_file()
