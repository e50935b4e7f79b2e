"""What a vision tokenizer keeps: decibels, readable scenes, codes, on tokenizers of a few lines."""

import numpy as np
import pytest
from PIL import Image

from earl.errors import ConfigError
from earl.vision.creating import create_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer
from earl.world.rendering import render
from earl.world.scene import STYLES, Scene, SceneObject
from earl.world.tokenizer_benchmark import (
    TokenizerBenchmark,
    draw_scenes,
    evaluate_tokenizer,
    format_tokenizer,
    perplexity,
    reads_exactly,
)


class Perfect:
    """Gives back what went in; its codes say only how many images there were."""

    codebook_size = 4
    rule = "snap"
    area = 64 * 64

    def encode(self, images, resize=True):
        self.kept = images
        return [np.array([[0, 1], [0, 1]]) for _ in images]

    def decode(self, codes):
        return self.kept


class Blind(Perfect):
    """Whatever went in, a gray square comes out."""

    def decode(self, codes):
        return [Image.new("RGB", image.size, (128, 128, 128)) for image in self.kept]


def test_a_perfect_tokenizer_keeps_everything():
    done = []
    report = evaluate_tokenizer(
        Perfect(), TokenizerBenchmark(num=5, seed=1, batch=3), name="perfect", on_batch=done.append
    )
    assert done == [3, 5]
    assert report["psnr"] == 100.0 and report["exact_before"] == report["exact_after"] == 1.0
    assert list(report["styles"]) == list(STYLES)
    assert all(part["n"] == 1 for part in report["styles"].values())
    assert report["codebook"] == {"size": 4, "used": 2, "perplexity": 2.0, "codes": 20}
    assert report["resolution"] == 64 and report["model"] == "perfect" and report["seed"] == 1
    text = format_tokenizer(report)
    assert all(f"| {style} | 1 |" in text for style in STYLES)
    assert "2 of 4 codes in use, perplexity 2 (20 codes counted)" in text


def test_a_blind_one_keeps_nothing():
    report = evaluate_tokenizer(Blind(), TokenizerBenchmark(num=2))
    assert report["exact_before"] == 1.0 and report["exact_after"] == 0.0
    assert report["psnr"] < 20 and report["psnr_interval"][0] <= report["psnr"] <= report["psnr_interval"][1]


def test_a_real_one_of_the_smallest_size():
    model = create_vision_tokenizer(seed=0, codebook_size=16, channel_multiplier=(1, 1, 1, 1))
    report = evaluate_tokenizer(VisionTokenizer(model, area=32 * 32), TokenizerBenchmark(num=2))
    assert report["resolution"] == 32 and report["codebook"]["codes"] == 2 * 16
    assert 1 <= report["codebook"]["perplexity"] <= report["codebook"]["used"] <= 16
    assert 0 < report["psnr"] < 40


def test_scenes_depend_on_the_seed_and_extend():
    few, many = (draw_scenes(TokenizerBenchmark(num=n, seed=3)) for n in (4, 7))
    assert few == many[:4] and few != draw_scenes(TokenizerBenchmark(num=4, seed=4))
    assert [scene.style for scene in many] == [*STYLES, *STYLES[:2]]


def test_perplexity_by_hand():
    assert perplexity(np.array([3, 3, 3, 0])) == pytest.approx(3.0)
    assert perplexity(np.array([0, 9])) == pytest.approx(1.0)


def test_reading_asks_for_the_whole_scene():
    cube = SceneObject("cube", "red", 1, 1)
    scene = Scene("snow", "day", (cube,))
    assert reads_exactly(scene, render(scene, 64))
    assert not reads_exactly(scene, render(scene.without(cube), 64))
    assert not reads_exactly(scene, render(Scene("snow", "night", (cube,)), 64))


@pytest.mark.parametrize("wrong", [{"num": 0}, {"batch": 0}, {"resolution": 60}, {"resolution": 8}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        TokenizerBenchmark(**wrong)
