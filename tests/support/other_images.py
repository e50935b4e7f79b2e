"""Images that are no scenes of the world: photograph-like noise, patterns, drawings, text, flat colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("cloud", "noise", "gradient", "board", "rings", "shapes", "text", "portrait", "flat", "tiles")


def other_image(number: int, side: int = 64) -> NDArray[np.uint8]:
    """Image number i, uint8 (side, side, 3); its kind is KINDS[i % 10]."""
    rng, kind = np.random.default_rng([7, number]), KINDS[number % len(KINDS)]
    drawn = _FIELDS[kind](rng, side) if kind in _FIELDS else np.asarray(_drawing(kind, rng, side))
    return np.ascontiguousarray(drawn.astype(np.uint8))


def _scaled(field: NDArray[np.float64]) -> NDArray[np.float64]:
    return 255 * (field - field.min()) / max(float(np.ptp(field)), 1e-9)


def _cloud(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Noise whose spectrum falls as that of photographs does, 1/f, its channels alike."""
    distance = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    bands = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / distance).real for _ in range(3)]
    return np.stack([_scaled(bands[0] + 0.4 * band) for band in bands], -1)


def _colours(rng: np.random.Generator, number: int) -> NDArray[np.int64]:
    return rng.integers(0, 256, (number, 3))


def _mixed(rng: np.random.Generator, field: NDArray[np.float64]) -> NDArray[np.float64]:
    one, other = _colours(rng, 2)
    return one + (other - one) * (_scaled(field) / 255)[..., None]


def _axes(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = np.mgrid[:side, :side]
    return rows, columns


def _tiles(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    return np.kron(_colours(rng, (side // 8) ** 2).reshape(side // 8, side // 8, 3), np.ones((8, 8, 1)))


_FIELDS = {
    "cloud": _cloud,
    "noise": lambda rng, side: rng.integers(0, 256, (side, side, 3)),
    "gradient": lambda rng, side: _mixed(rng, rng.normal() * _axes(side)[0] + rng.normal() * _axes(side)[1]),
    "board": lambda rng, side: _mixed(rng, sum(_axes(side)[i] // rng.integers(3, 12) for i in (0, 1)) % 2.0),
    "rings": lambda rng, side: _mixed(
        rng, np.sin(np.hypot(*(a - rng.integers(side) for a in _axes(side))) / rng.uniform(1, 4))
    ),
    "flat": lambda rng, side: np.broadcast_to(_colours(rng, 1)[0], (side, side, 3)),
    "tiles": _tiles,
}


def _drawing(kind: str, rng: np.random.Generator, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), tuple(_colours(rng, 1)[0].tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 9)):
        colour = tuple(_colours(rng, 1)[0].tolist())
        left, top = rng.integers(-8, side - 8, 2).tolist()
        right, bottom = left + int(rng.integers(8, side)), top + int(rng.integers(8, side))
        if kind == "text":
            pen.text((left, top), "".join(map(chr, rng.integers(33, 126, 12).tolist())), colour)
        else:
            (pen.ellipse if rng.random() < 0.5 else pen.rectangle)([left, top, right, bottom], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(2)) if kind == "portrait" else image
