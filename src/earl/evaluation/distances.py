"""How far an edited image is from its target, pixel by pixel: L1, PSNR, SSIM. numpy only.

Axis letters: H W rows and columns, C channels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, 11 x 11
MOST = 100.0  # dB: two equal images


def pixels(image: Image.Image) -> Array:
    """(H, W, C) float64 in [0, 1]."""
    return np.asarray(image.convert("RGB"), np.float64) / 255


def l1(first_HWC: Array, second_HWC: Array) -> float:
    """Mean absolute difference, 0-1; 0 is best."""
    return float(np.abs(first_HWC - second_HWC).mean())


def psnr(first_HWC: Array, second_HWC: Array) -> float:
    """Peak signal-to-noise ratio in dB; more is better, 100 for equal pictures."""
    error = float(np.square(first_HWC - second_HWC).mean())
    return min(MOST, -10 * math.log10(error)) if error > 0 else MOST


def ssim(first_HWC: Array, second_HWC: Array) -> float:
    """Structural similarity, up to 1: mean over channels, and over windows that lie inside the picture.

    Window and constants as in Wang et al. 2004 (Gaussian 11 x 11, sigma 1.5, K 0.01 and 0.03).

    Raises:
        ValueError: a side under 11 px.
    """
    if min(first_HWC.shape[:2]) < 2 * RADIUS + 1:
        raise ValueError(f"SSIM needs sides of 11 px, got {first_HWC.shape[:2]}")
    c1, c2 = 0.01**2, 0.03**2
    mean1, mean2 = _blur(first_HWC), _blur(second_HWC)
    var1 = _blur(first_HWC**2) - mean1**2
    var2 = _blur(second_HWC**2) - mean2**2
    cov = _blur(first_HWC * second_HWC) - mean1 * mean2
    top = (2 * mean1 * mean2 + c1) * (2 * cov + c2)
    return float((top / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2))).mean())


def _blur(image_HWC: Array) -> Array:
    """Gaussian mean over the windows that fit, so sides are 10 px shorter."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = image_HWC.shape[0] - 2 * RADIUS
    columns = image_HWC.shape[1] - 2 * RADIUS
    down = sum(weight * image_HWC[i : i + rows] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * down[:, i : i + columns] for i, weight in enumerate(weights)))
