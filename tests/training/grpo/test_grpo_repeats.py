"""Equal rollouts are decoded and judged once, and decoding in bfloat16: beside the plain ways."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from earl.cli import main
from earl.config.grpo import Rollouts
from earl.config.stages import load_stage
from earl.models.resolve import resolve_model
from earl.records import Attempt
from earl.training.grpo import train as training
from earl.training.grpo.repeats import DecodedImages, OnceEach, is_repeatable, once_each
from earl.training.grpo.train import train_grpo
from earl.verifiers.combined import Weighted, WeightedSum
from earl.vision.loading import load_vision_tokenizer
from earl.vision.still import decode_still
from earl.vision.tokenizer import to_images
from earl.world.rendering import render
from earl.world.tasks import sample_task
from earl.world.verifier.scene import SceneVerifier
from earl.world.verifier.weak_judge import WeakJudge

from .tiny import Bright, MeanColour, make_recipe, recipe_table, records

ROOT = Path(__file__).parents[3]


class Eyes(MeanColour):
    """Remembers how many grids it decoded at each call, and in what."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def decode(self, codes, bf16: bool = False):
        self.calls.append((len(codes), bf16))
        return super().decode(codes)


class Counting(SceneVerifier):
    """In process and repeatable as its class is, with a brightness for a score."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    async def judge(self, attempts):
        self.seen += len(attempts)
        return [Bright().verdict(attempt) for attempt in attempts]


@pytest.fixture(scope="module")
def scenes():
    """Six edits of the world at 64 px: source, instruction, target."""
    tasks = [sample_task(seed, "test") for seed in range(6)]
    return [
        (Image.fromarray(render(t.source, 64)), t.instruction, Image.fromarray(render(t.target, 64)))
        for t in tasks
    ]


def test_a_grid_is_decoded_once_and_comes_back_in_its_places():
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 64, (4, 4)).astype(np.int32) for _ in range(3)]
    flat = grids[0].reshape(2, 8)  # the same bytes, another shape
    asked = [grids[0], None, grids[1], grids[0].astype(np.int64), flat, grids[1]]
    eyes = Eyes()
    pictures = DecodedImages(eyes)
    found = pictures.of(asked)
    assert eyes.calls == [(3, False)] and pictures.decoded == 3
    plain = [None if grid is None else MeanColour().decode([grid])[0] for grid in asked]
    assert [p and p.tobytes() for p in found] == [p and p.tobytes() for p in plain]
    assert [p and p.size for p in found] == [p and p.size for p in plain]
    pictures.of([grids[2], grids[1]])
    assert eyes.calls[1:] == [(1, False)], "what an earlier group decoded is known"
    assert pictures.of([None]) == [None] and len(eyes.calls) == 2


@pytest.mark.parametrize("way", ["plain", "weak", "sum"])
def test_equal_attempts_get_the_verdict_of_the_plain_way(way: str, scenes):
    def verifier():
        scene = SceneVerifier()
        return {
            "plain": scene,
            "weak": WeakJudge(),
            "sum": WeightedSum([Weighted("a", scene), Weighted("b", WeakJudge(), 2.0)]),
        }[way]

    attempts = [
        Attempt(source, words, edited) for source, words, target in scenes for edited in (target, source)
    ]
    group = [attempts[index] for index in (0, 1, 0, 0, 2, 1, 3, 2)]
    group.append(Attempt(attempts[0].source, attempts[2].instruction, attempts[0].edited))  # other words
    plain = asyncio.run(verifier().judge(group))
    assert asyncio.run(once_each(verifier()).judge(group)) == plain
    assert len({verdict.overall for verdict in plain if verdict.ok}) > 1, "there was something to tell apart"


def test_only_what_repeats_itself_is_asked_once(scenes):
    scene = SceneVerifier()
    assert is_repeatable(scene) and is_repeatable(WeakJudge())
    other = Bright()  # as a judge behind an endpoint: who knows
    mixed = WeightedSum([Weighted("a", scene), Weighted("b", other)])
    for verifier in (other, mixed):
        assert not is_repeatable(verifier) and once_each(verifier) is verifier
    counting = Counting()
    attempts = [Attempt(source, words, target) for source, words, target in scenes[:2]]
    assert len(asyncio.run(OnceEach(counting).judge([*attempts, *attempts, attempts[0]]))) == 5
    assert counting.seen == 2


def test_a_group_of_copies_is_decoded_and_judged_once(room: Path, tmp_path: Path) -> None:
    """Greedy rollouts are all equal; the plain way is a verifier of another class."""
    rewards = []
    for name, verifier in (("once", Counting()), ("plain", Bright())):
        table = recipe_table(room, tmp_path / name) | {"length": {"max_steps": 1}, "heldout": {"prompts": 2}}
        table["rollouts"] |= {"top_k": 1, "decode": "bf16"}
        eyes = Eyes()
        train_grpo(make_recipe(table), verifier, vision=eyes)
        trained = [count for count, bf16 in eyes.calls if bf16]
        assert trained == [1] * len(trained) and 0 < len(trained) <= 4, "4 groups of 4 equal rollouts"
        assert [count for count, bf16 in eyes.calls if not bf16], "held-out prompts, exact"
        line = records(tmp_path / name)[0]
        assert line["repeated"] == 0.75
        rewards.append(line["reward"])
        start = json.loads((tmp_path / name / "run.json").read_text())["starts"][0]
        assert start["decode"] == "bf16"
        if isinstance(verifier, Counting):
            assert verifier.seen == 4 + 4
    assert rewards[0] == rewards[1]


# --- bfloat16 ---


def test_bf16_images_are_near_and_verdicts_stay(scenes):
    """The shipped tokenizer: under 1 of 255 levels in the mean, and no edit judged otherwise."""
    folder = resolve_model("world").vision_path
    assert folder is not None
    vision = load_vision_tokenizer(folder, device="cpu")
    codes = vision.encode([target for _, _, target in scenes], resize=False)
    exact, near = vision.decode(codes), vision.decode(codes, bf16=True)
    grids = torch.from_numpy(np.stack(codes)).long()
    with torch.inference_mode():
        vectors = vision.model.quantize.embedding(grids).permute(0, 3, 1, 2).contiguous()
        plain = to_images(decode_still(vision.model, vectors))
    assert [p.tobytes() for p in exact] == [p.tobytes() for p in plain], "float32 is the default, untouched"
    apart = np.abs(np.stack(exact).astype(int) - np.stack(near).astype(int))
    assert 0 < apart.mean() < 1.0 and apart.max() <= 32, "of 255 levels"
    verifier = SceneVerifier()
    verdicts = [
        verifier.judge_now([Attempt(s, words, e) for (s, words, _), e in zip(scenes, way, strict=True)])
        for way in (exact, near)
    ]
    for one, other in zip(*verdicts, strict=True):
        assert one.status == other.status == "ok"
        assert other.overall == pytest.approx(one.overall, abs=0.1)
        assert (other.edit_success, other.exact) == (one.edit_success, one.exact)
    assert sum(v.exact for v in verdicts[0]) >= 4, "clean targets are mostly exact edits"


@pytest.mark.parametrize(("native", "expected"), [(True, [False, True, True]), (False, [False, True, False])])
def test_auto_is_what_the_device_computes_in(native: bool, expected: list[bool], monkeypatch):
    monkeypatch.setattr(training, "native_bf16", lambda device: native)
    ways = [Rollouts(decode=way) for way in ("float32", "bf16", "auto")]
    assert [training.decodes_in_bf16(way, torch.device("cpu")) for way in ways] == expected


def test_the_setting_is_in_the_recipe_and_the_dry_run(capsys):
    assert Rollouts().decode == "float32"
    for name in ("grpo", "grpo-lora"):
        recipe = load_stage(ROOT / "recipes" / "world" / f"{name}.toml", stage="grpo")
        assert recipe.rollouts.decode == "auto"
    words = [str(ROOT / "recipes" / "world" / "grpo.toml"), "rollouts.decode=bf16", "--dry-run"]
    assert main(["train", "grpo", *words]) == 0
    assert 'decode = "bf16"' in capsys.readouterr().out
