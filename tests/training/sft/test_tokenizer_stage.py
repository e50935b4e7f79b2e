"""The tokenizer stage: learns, resumes exactly, shows a wall, leaves a loadable folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from earl.config.sections import BatchSizes
from earl.config.stages import TokenizerImages
from earl.errors import ConfigError, DataError
from earl.training.tokenizer.images import ImageStream, edge_weights, load_images, to_pixels
from earl.training.tokenizer.train import train_tokenizer
from earl.vision.loading import load_vision_tokenizer
from earl.world.rendering import render
from earl.world.scene import STYLES
from earl.world.tasks import sample_group
from stage_runs import largest_difference, run_script

from .conftest import make_recipe


def table(folder: Path, cache: Path) -> dict[str, Any]:
    return {
        "stage": "tokenizer",
        "run": {"folder": str(folder), "device": "cpu", "tracker": "none", "log_every": 1, "threads": 1},
        "length": {"max_steps": 6},
        "batch": {"global_size": 4, "micro_size": 2},
        "optimiser": {"learning_rate": 1e-3, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "precision": {"compute": "float32"},
        "checkpoint": {"every": 3},
        "validation": {"every": 3, "sequences": 3},
        "model": {"channel_multiplier": [1, 1, 1, 1], "codebook_size": 16, "area": 1024},
        "images": {
            "origin": "world",
            "resolution": 32,
            "count": 12,
            "crop": 16,
            "crops_per_image": 2,
            "crop_steps": 4,
            "cache": str(cache),
        },
        "losses": {"warmup_steps": 4, "edges": 2.0},
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "images.npy"


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(make_recipe(table(folder, cache)))
    return folder


def test_it_learns_and_leaves_a_model(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    checks = [line for line in lines if line["split"] == "validation"]
    assert train[3]["l1"] < train[0]["l1"], "before the codebook starts"
    assert train[0]["commitment"] == 0 < train[-1]["commitment"]
    assert 1 <= checks[-1]["codes_perplexity"] <= checks[-1]["codes_alive"] <= 16
    assert np.isfinite(checks[-1]["psnr"])
    with Image.open(run / "images" / "reconstructions-00000006.png") as wall:
        assert wall.size == (3 * 32, 2 * 32)
    tokenizer = load_vision_tokenizer(run / "model")
    assert tokenizer.codebook_size == 16 and tokenizer.area == 1024
    codes = tokenizer.encode([Image.new("RGB", (32, 32), "red")])[0]
    assert codes.shape == (4, 4) and tokenizer.decode([codes])[0].size == (32, 32)


def test_resuming_equals_not_stopping(run: Path, cache: Path, tmp_path: Path) -> None:
    cut = table(tmp_path, cache)
    cut["length"]["max_steps"] = 3
    train_tokenizer(make_recipe(cut))
    cut["length"]["max_steps"] = 6
    train_tokenizer(make_recipe(cut))
    ends = [load_file(f / "checkpoints" / "step-00000006" / "model.safetensors") for f in (run, tmp_path)]
    assert ends[0].keys() == ends[1].keys()
    for name in ends[0]:
        assert torch.equal(ends[0][name], ends[1][name]), name
    assert any("quantize.embedding" in name for name in ends[0]), "the codebook has no gradient, and is saved"


# Two runs in one process of a rank: uninterrupted, and stopped at step 3 and continued. Each rank
# writes the weights that it holds after both.
RANKS = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from earl.config.recipe import load_recipe
from earl.config.stages import TokenizerRecipe
from earl.training.tokenizer import train as tokenizer

kept, save = {}, tokenizer.TokenizerObjective.__init__
def remember(self, learner, precision):
    kept["learner"] = learner
    save(self, learner, precision)
tokenizer.TokenizerObjective.__init__ = remember
recipe = load_recipe(TokenizerRecipe, sys.argv[1])
folder = Path(recipe.run.folder)
def run(name, steps):
    run = recipe.run.model_copy(update={"folder": str(folder / name)})
    changes = {"run": run, "length": recipe.length.model_copy(update={"max_steps": steps})}
    tokenizer.train_tokenizer(recipe.model_copy(update=changes))
run("whole", 6)
state = {n: t.clone() for n, t in kept["learner"].model.state_dict().items()}
save_file(state, folder / f"rank-{os.environ['RANK']}.safetensors")
run("cut", 3)
run("cut", 6)
"""


def test_two_ranks_hold_the_same_tokenizer_and_resume_exactly(run: Path, cache: Path, tmp_path: Path) -> None:
    both = table(tmp_path, cache)
    both["validation"]["sequences"] = 2  # one batch: the second rank has no images to show
    assert run_script(tmp_path, RANKS, make_recipe(both), ranks=2) == [0, 0]
    ranks = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1)]
    assert largest_difference(*ranks) == 0.0
    assert largest_difference(ranks[0], load_file(run / "model" / "model.safetensors")) > 0
    whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert largest_difference(whole, cut) == 0.0
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2, 3, 4, 5, 6]
    checks = [line for line in lines if line["split"] == "validation"]
    assert 1 <= checks[-1]["codes_perplexity"] <= checks[-1]["codes_alive"] <= 16
    tokenizer = load_vision_tokenizer(tmp_path / "whole" / "model")
    assert tokenizer.decode(tokenizer.encode([Image.new("RGB", (32, 32), "red")]))[0].size == (32, 32)


def test_continuing_from_a_tokenizer_keeps_its_codes(run: Path, cache: Path, tmp_path: Path) -> None:
    more = table(tmp_path, cache)
    more["model"] = {"start": str(run / "model")}
    more["length"]["max_steps"], more["optimiser"]["learning_rate"] = 1, 1e-9
    more["images"]["crop_steps"] = 0
    train_tokenizer(make_recipe(more))
    old, new = (load_vision_tokenizer(f / "model") for f in (run, tmp_path))
    assert new.fingerprint() != old.fingerprint() and new.area == old.area == 1024
    before, after = old.model, new.model
    moved = (before.quantize.embedding.weight - after.quantize.embedding.weight).abs().max()
    assert 0 < moved < 0.5 * before.quantize.embedding.weight.abs().max()


def test_the_decoder_alone_is_taught_and_codes_are_kept(run: Path, cache: Path, tmp_path: Path) -> None:
    more = table(tmp_path, cache)
    more["model"] = {"start": str(run / "model"), "keep_codes": True}
    more["length"]["max_steps"], more["images"]["crop_steps"] = 3, 0
    train_tokenizer(make_recipe(more))
    before, after = (load_file(f / "model" / "model.safetensors") for f in (run, tmp_path))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)
    assert any(name.startswith("post_quant_conv.") for name in moved)
    pictures = [Image.fromarray(picture) for picture in np.load(cache)[:4]]
    old, new = (load_vision_tokenizer(f / "model") for f in (run, tmp_path))
    codes = old.encode(pictures)
    assert all(np.array_equal(a, b) for a, b in zip(codes, new.encode(pictures), strict=True))
    assert old.decode(codes)[0].tobytes() != new.decode(codes)[0].tobytes()
    assert new.fingerprint() == old.fingerprint(), "shards of the old one stay valid"
    assert new.area == old.area == 1024


def test_codes_to_keep_come_from_a_start(tmp_path: Path, cache: Path) -> None:
    fresh = table(tmp_path, cache)
    fresh["model"] = {"keep_codes": True}
    with pytest.raises(ConfigError, match=r"keep_codes = true needs model\.start"):
        make_recipe(fresh)


def test_images_are_the_worlds_and_stay(cache: Path, run: Path) -> None:
    images = TokenizerImages(origin="world", resolution=32)
    pictures = load_images(images, cache, split="train", count=12)
    task = sample_group(2, "train", size=1)[0]
    assert np.array_equal(pictures[4], render(task.source, 32))
    assert np.array_equal(pictures[5], render(task.target, 32))
    with pytest.raises(DataError, match=r"32, 32, 3.*64 px"):
        load_images(TokenizerImages(origin="world", resolution=64), cache, split="train", count=12)


def test_a_cache_of_other_settings_is_made_anew(tmp_path: Path) -> None:
    """Of another run, or of fewer images than are asked for; an older one is taken as it is."""
    file, images = tmp_path / "shared.npy", TokenizerImages(origin="world", resolution=32)
    first = np.array(load_images(images, file, split="train", count=4))
    few = TokenizerImages(origin="world", resolution=32, families=("stack",))
    assert not np.array_equal(load_images(few, file, split="train", count=4), first)
    assert len(load_images(images, file, split="train", count=6)) == 6
    assert np.array_equal(load_images(images, file, split="train", count=4), first)
    changed = file.stat().st_mtime_ns
    load_images(images, file, split="train", count=4)
    assert file.stat().st_mtime_ns == changed
    (tmp_path / "shared.npy.json").unlink()
    assert len(load_images(images, file, split="train", count=6)) == 4


def test_images_in_every_style_alike(tmp_path: Path) -> None:
    images = TokenizerImages(origin="world", resolution=32, options={"even_styles": True})
    pictures = load_images(images, tmp_path / "e.npy", split="train", count=10)
    for index, picture in enumerate(pictures):
        task = sample_group(index // 2, "train", size=1)[0]
        scene = task.target if index % 2 else task.source
        assert np.array_equal(picture, render(replace(scene, style=STYLES[index % len(STYLES)]), 32))


def test_images_of_some_families(tmp_path: Path) -> None:
    images = TokenizerImages(origin="world", resolution=32, families=("stack", "topple"))
    pictures = load_images(images, tmp_path / "f.npy", split="train", count=6)
    tasks = [sample_group(index, "train", ["stack", "topple"], size=1)[0] for index in range(3)]
    assert {task.family for task in tasks} <= {"stack", "topple"}
    for index, picture in enumerate(pictures):
        scene = tasks[index // 2].target if index % 2 else tasks[index // 2].source
        assert np.array_equal(picture, render(scene, 32))
    wrong = images.replace(families=("stak",))
    with pytest.raises(ConfigError, match="unknown edit family"):
        load_images(wrong, tmp_path / "g.npy", split="train", count=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["f.npy", "f.npy.json"], "nothing half-written is left"


def test_images_of_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (40 + number, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    images = TokenizerImages(origin="folder", folder=str(tmp_path), resolution=16)
    train = load_images(images, tmp_path / "t.npy", split="train", count=99)
    held_back = load_images(images, tmp_path / "v.npy", split="validation", count=99)
    assert train[:, 0, 0, 0].tolist() == [1, 2] and held_back[:, 0, 0, 0].tolist() == [0]
    images = images.replace(folder=str(tmp_path / "none"))
    with pytest.raises(DataError, match="0 images"):
        load_images(images, tmp_path / "n.npy", split="train", count=1)


def test_a_few_images_that_cannot_be_opened_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(44):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    whole = (tmp_path / "43.png").read_bytes()
    (tmp_path / "43.png").write_bytes(whole[:60])
    (tmp_path / "._03.png").write_bytes(b"of another system")
    images = TokenizerImages(origin="folder", folder=str(tmp_path), resolution=16)
    train = load_images(images, tmp_path / "t.npy", split="train", count=99)
    wanted = [number for number in range(43) if number % 20]
    assert train[:, 0, 0, 0].tolist() == wanted and len(np.load(tmp_path / "t.npy")) == 40
    said = capsys.readouterr().err
    assert "left out 1 of 41 images" in said and "43.png is damaged or cut short" in said
    for number in (1, 2, 3):
        (tmp_path / f"{number:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3 of 41 images cannot be opened"):
        load_images(images, tmp_path / "u.npy", split="train", count=99)


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"t\.npy cannot be read.*delete it"):
        load_images(TokenizerImages(origin="world"), tmp_path / "t.npy", split="train", count=1)


def test_crops_come_first_and_lie_on_the_grid_every_other_time() -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8).repeat(4, 0).repeat(4, 1)  # 32 x 32
    column = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, None, :, None], (3, 32, 32, 3))
    images = TokenizerImages(origin="world", resolution=32, crop=16, crops_per_image=2, crop_steps=2)
    sizes = BatchSizes(global_size=2, micro_size=1)
    stream = ImageStream(column, images, sizes, edges=0.0, seed=0)
    assert ramp.shape == (32, 32)
    first, second, third = next(stream), next(stream), next(stream)
    assert [len(part.pixels_BCHW) for part in first] == [2, 2] and third[0].pixels_BCHW.shape[-1] == 32
    lefts = [((part.pixels_BCHW[:, 0, 0, 0] + 1) * 127.5).round().long().tolist() for part in first]
    assert all(left % 8 == 0 for pair in lefts for left in pair)
    assert second[0].pixels_BCHW.shape == (2, 3, 16, 16) and second[0].weights_BHW is None


def test_edges_weigh_more() -> None:
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[:, :, 8:] = 255
    weights = edge_weights(to_pixels(picture), 6.0)[0]
    assert weights[8, 0] == 1.0 and weights[8, 8] == pytest.approx(1 + 6 * 2 / 5)


def test_refusals(tmp_path: Path, cache: Path) -> None:
    wrong = table(tmp_path, cache)
    wrong["ema"] = {}
    with pytest.raises(ConfigError, match="ema"):
        make_recipe(wrong)
    wrong = table(tmp_path, cache)
    wrong["images"]["crop"] = 20
    with pytest.raises(ConfigError, match=r"crop_steps.*images\.crop"):
        make_recipe(wrong)
