"""Against what the Emu3 release itself computed (tests/vectors/vq, geometry.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from earl.errors import ImageError
from earl.vision.images import grid_of, open_image, resize_pair, target_size
from earl.vision.loading import load_vision_tokenizer
from earl.vision.tokenizer import to_pixels

VECTORS = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors"


@pytest.fixture(scope="module")
def tokenizer():
    return load_vision_tokenizer(VECTORS / "vq")


@pytest.fixture(scope="module")
def expected():
    return load_file(VECTORS / "vq" / "expected.safetensors")


@pytest.mark.parametrize("n", range(3))
def test_pixels_codes_and_reconstruction_are_the_release_s(tokenizer, expected, n):
    path = VECTORS / "vq" / f"image_{n}.png"
    pixels = to_pixels([open_image(path)])
    torch.testing.assert_close(pixels, expected[f"pixel_values_{n}"], atol=1e-6, rtol=0)
    (codes,) = tokenizer.encode([path], resize=False)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, expected[f"codes_{n}"][0].numpy())
    decoded = tokenizer.decode_codes(expected[f"codes_{n}"])
    torch.testing.assert_close(decoded, expected[f"decoded_{n}"], atol=1e-4, rtol=0)
    (picture,) = tokenizer.decode([codes])
    wanted = (expected[f"decoded_{n}"][0].clamp(-1, 1) + 1) * 127.5
    assert np.abs(np.asarray(picture, float).transpose(2, 0, 1) - wanted.numpy()).max() <= 0.51


def test_a_batch_of_mixed_sizes_gives_what_each_gives_alone(tokenizer, expected):
    paths = [VECTORS / "vq" / f"image_{n}.png" for n in (2, 0, 1, 0)]
    together = tokenizer.encode(paths, resize=False)
    for n, codes in zip((2, 0, 1, 0), together, strict=True):
        np.testing.assert_array_equal(codes, expected[f"codes_{n}"][0].numpy())
    sizes = [Image.open(path).size for path in paths]
    assert [picture.size for picture in tokenizer.decode(together)] == sizes


def test_area_and_codebook_of_the_release(tokenizer):
    assert tokenizer.area == 65536 and tokenizer.codebook_size == 512


@pytest.mark.parametrize("n", range(4))
def test_sides_that_are_no_multiples_of_8_are_floored_as_in_the_release(tokenizer, n):
    odd = load_file(VECTORS / "vq" / "odd.safetensors")
    path = VECTORS / "vq" / f"odd_{n}.png"
    (codes,) = tokenizer.encode([path], resize=False)
    np.testing.assert_array_equal(codes, odd[f"codes_odd_{n}"][0].numpy())
    width, height = Image.open(path).size
    assert codes.shape == (height // 8, width // 8) and (width % 8 or height % 8)
    decoded = tokenizer.decode_codes(odd[f"codes_odd_{n}"])
    torch.testing.assert_close(decoded, odd[f"decoded_odd_{n}"], atol=1e-4, rtol=0)


def test_release_sizes_and_grids_are_the_release_s():
    cases = json.loads((VECTORS / "geometry.json").read_text())
    for case in cases:
        size = target_size(case["width"], case["height"], case["area"], "release")
        grid = grid_of(size)
        assert [list(size), [grid.width, grid.height]] == [case["resized"], case["latent"]]
    assert len(cases) == 60


def test_snapped_sizes_stay_near_the_release_s_but_in_whole_cells():
    for case in json.loads((VECTORS / "geometry.json").read_text()):
        width, height, area = case["width"], case["height"], case["area"]
        if max(width, height) > 5 * min(width, height):
            with pytest.raises(ImageError, match="5 times as long"):
                target_size(width, height, area)
            continue
        ours = target_size(width, height, area)
        assert all(side % 8 == 0 for side in ours)
        assert all(abs(a - b) <= 5 for a, b in zip(ours, case["resized"], strict=True))


def test_a_pair_of_the_release_s_rule_has_one_grid():
    source, near, far = (Image.new("RGB", size) for size in ((640, 480), (641, 480), (480, 480)))
    _, same = resize_pair(source, near, 65_536, "release")
    assert same.size == target_size(641, 480, 65_536, "release")
    first, other = resize_pair(source, far, 65_536, "release")
    assert first.size == other.size == target_size(640, 480, 65_536, "release") == (296, 222)
