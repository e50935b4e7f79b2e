"""A sum of verifiers gives the rewards: the scene verifier here, and an endpoint that sees the target."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from earl.data.shards import load_shards, start_folder, write_shard
from earl.errors import ConfigError, TrainingError
from earl.records import SCORE_PARTS
from earl.sequence.tokenizer import TextTokenizer
from earl.training.grpo.prompts import ShardPrompts
from earl.training.grpo.train import train_grpo

from .test_grpo_http import run_world
from .tiny import Bright, MeanColour, make_recipe, recipe_table, records

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving


def images_of(body: dict[str, Any]) -> list[np.ndarray]:
    urls = [
        part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"
    ]
    files = [io.BytesIO(base64.b64decode(url.partition(",")[2])) for url in urls]
    return [np.asarray(Image.open(file).convert("RGB")).astype(float) for file in files]


class Grounds:
    """Answers as a model might: how near the edit is to the target, and how bright it is."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []
        self.alone: list[tuple[float, float]] = []

    def __call__(self, body: dict[str, Any]) -> tuple[int, Any]:
        pictures = images_of(body)
        if len(pictures) == 2:
            apart = np.abs(pictures[0] - pictures[1])
            scores = (round(10 - apart.mean() / 25.5, 2), round(10 - apart.max() / 25.5, 2))
        else:
            scores = (round(pictures[0].mean() / 25.5, 2), round(pictures[0].max() / 25.5, 2))
        (self.pairs if len(pictures) == 2 else self.alone).append(scores)
        return 200, completion(json.dumps({"score": list(scores), "reasoning": "measured"}))


def test_rewards_are_the_sum_that_the_recipe_states(tmp_path: Path) -> None:
    """Scene verifier with weight 3, the endpoint with 1: shares of 0.75 and 0.25 of each score."""
    grounds, here = Grounds(), ["heldout.prompts=0", "strips.every=1"]
    with serving(grounds) as endpoint:
        parts = ["verifier.kind=sum", "verifier.parts.world.kind=scene", "verifier.parts.world.weight=3"]
        parts += ["verifier.parts.target.kind=reference", f"verifier.parts.target.judge.url={endpoint.url}"]
        assert run_world(tmp_path / "sum", *here, *parts) == 0
    lines = records(tmp_path / "sum")
    assert [line["step"] for line in lines] == [1, 2] and len(grounds.pairs) == len(grounds.alone) == 16
    for step, line in enumerate(lines):
        asked = slice(8 * step, 8 * step + 8)
        answers = np.hstack([grounds.pairs[asked], np.array(grounds.alone[asked])]).mean(0)
        for part, answered in zip(SCORE_PARTS, answers, strict=True):
            assert line[f"target.{part}"] == pytest.approx(answered)
            assert line[part] == pytest.approx(0.75 * line[f"world.{part}"] + 0.25 * line[f"target.{part}"])
        assert line["world.failed"] == line["target.failed"] == line["failed"] == 0
        told = json.loads((tmp_path / "sum" / "strips" / f"{step + 1:08d}.json").read_text())
        rollouts = [rollout for group in told["groups"] for rollout in group["rollouts"]]
        for one in rollouts:
            pair, alone = ([one[name] for name in names] for names in (SCORE_PARTS[:2], SCORE_PARTS[2:]))
            assert one["reward"] == pytest.approx((min(pair) * min(alone)) ** 0.5)
            assert one["why"].startswith("world: ")
        for name in ("world", "target"):
            mean = np.mean([one["parts"][name] for one in rollouts])
            assert line[f"{name}.overall"] == pytest.approx(mean)
        assert line["reward"] == pytest.approx(np.mean([one["reward"] for one in rollouts]))
        assert len({one["reward"] for one in rollouts}) > 2, "there was something to tell apart"
    start = json.loads((tmp_path / "sum" / "run.json").read_text())["starts"][0]
    assert start["verifier"] == "0.75 x world (SceneVerifier) + 0.25 x target (scripted)"

    assert run_world(tmp_path / "scene", *here, "length.max_steps=1", "validation.every=1") == 0
    alone = records(tmp_path / "scene")[0]
    assert lines[0]["world.overall"] == pytest.approx(alone["reward"]), "the same rollouts before any update"
    assert not any("." in name for name in alone), "a verifier by itself has no parts"


def test_the_part_that_fails_is_named(room: Path, tmp_path: Path) -> None:
    """The endpoint judges single images and refuses pairs: the run stops, and says who it was."""

    def script(body: dict[str, Any]) -> tuple[int, Any]:
        if len(images_of(body)) == 2:
            return 422, {"error": {"message": "this verifier answers no reference question"}}
        return 200, completion('{"score": [7, 8]}')

    with serving(script) as endpoint:
        judge = {"url": endpoint.url, "concurrency": 4}
        table = recipe_table(room, tmp_path / "run") | {"judging": {"wait": 0.0, "retries": 1}}
        table["verifier"] = {
            "kind": "sum",
            "parts": {
                "target": {"kind": "reference", "judge": judge},
                "same": {"kind": "reference", "judge": judge},
            },
        }
        said = r"unusable: target: reference: HTTP 422: this verifier answers no reference question; same: "
        with pytest.raises(TrainingError, match=f"step 1: 16 of 16 .*{said}.*step 0 is saved"):
            train_grpo(make_recipe(table), vision=MeanColour())


def shards_without_targets(room: Path, folder: Path) -> Path:
    """Every second edit of the room's has no target."""
    shards = load_shards(room / "shards")
    manifest = {name: value for name, value in shards.manifest.items() if name != "format"}
    start_folder(folder, manifest)
    edits = [shards[index] for index in range(6)]
    none = np.zeros((0, 0), np.int32)
    write_shard(
        folder, 0, [replace(e, target_codes=none) if i % 2 else e for i, e in enumerate(edits)], split="train"
    )
    return folder


def test_edits_without_a_target_are_drawn_and_judged(room: Path, tmp_path: Path) -> None:
    shards = load_shards(shards_without_targets(room, tmp_path / "shards"))
    assert shards.without_target() == 3 and shards.select(families=[shards[0].family]).without_target() < 3
    tokenizer = TextTokenizer.from_folder(room / "model")
    rows = (("all", row) for row in range(len(shards)))
    prompts = ShardPrompts(MeanColour(), tokenizer, {"all": shards}, rows).make(list(range(6)))
    assert sum(prompt.target is None for prompt in prompts) == 3
    table = recipe_table(room, tmp_path / "run") | {"length": {"max_steps": 1}}
    table["prompts"] = {"origin": "shards", "path": str(tmp_path / "shards")}
    train_grpo(make_recipe(table), Bright(), vision=MeanColour())
    assert records(tmp_path / "run")[0]["failed"] == 0


def test_a_ground_verifier_wants_targets_before_anything_is_sampled(room: Path, tmp_path: Path) -> None:
    shards = str(shards_without_targets(room, tmp_path / "shards"))
    table = recipe_table(room, tmp_path / "run") | {"prompts": {"origin": "shards", "path": shards}}
    with serving(Grounds()) as endpoint:
        ground = {"kind": "reference", "judge": {"url": endpoint.url}}
        table["verifier"] = {"kind": "sum", "parts": {"world": {"kind": "scene"}, "target": ground}}
        with pytest.raises(ConfigError, match=r"3 of 6 edits.*shards.*no target.*'reference'"):
            train_grpo(make_recipe(table), vision=MeanColour())
        assert not endpoint.asked and not (tmp_path / "run" / "log.jsonl").exists()
