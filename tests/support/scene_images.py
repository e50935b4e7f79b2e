"""Makers of images for the verifier's tests."""

import numpy as np
from PIL import Image


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)


def like_a_tokenizer(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A little blur, a tint of each 8 x 8 patch, a little grain: what a small VQ tokenizer does."""
    x = pixels.astype(np.float32) / 255
    for axis in (0, 1):
        ends = np.concatenate([x.take([0], axis), x, x.take([-1], axis)], axis)
        n = x.shape[axis]
        a, b, c = (ends.take(range(i, i + n), axis) for i in range(3))
        x = 0.25 * a + 0.5 * b + 0.25 * c
    tint = rng.normal(0, 0.012, (x.shape[0] // 8, x.shape[1] // 8, 3))
    x = x + np.kron(tint, np.ones((8, 8, 1))) + rng.normal(0, 0.012, x.shape)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)
