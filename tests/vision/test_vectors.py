"""Against what the Emu3 release itself computed (tests/data/vectors/vq, geometry.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from earl.errors import ImageError
from earl.vision import load_vision_tokenizer, open_image, target_size, to_pixels

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


def test_sizes_stay_near_the_release_s_but_in_whole_cells():
    for case in json.loads((VECTORS / "geometry.json").read_text()):
        width, height, area = case["width"], case["height"], case["area"]
        if max(width, height) > 5 * min(width, height):
            with pytest.raises(ImageError, match="5 times as long"):
                target_size(width, height, area)
            continue
        ours = target_size(width, height, area)
        assert all(side % 8 == 0 for side in ours)
        assert all(abs(a - b) <= 5 for a, b in zip(ours, case["resized"], strict=True))
