"""Sprites of single solids, from which perception composes candidate images quickly.

The renderer's shading is affine in a solid's colour, so one sprite per shape, pose, size, texture
and sub-pixel position serves all colours:

    image = ground * shadow          then for each solid, back to front,
    image = image * (1 - cover) + light * colour + gleam

Axis letters: N candidates, C channels, H W pixels of a patch. A `SpriteSheet` works at one image
side: the image's own for styles that are affine in the pixels, twice that for the pencil,
whose lines are finer than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from earl.world.rendering import PALETTE, draw_shadow, shade
from earl.world.scene import (
    COLORS,
    FLAT_TOPPED,
    OPENING,
    RADIUS,
    SHAPES,
    SIZES,
    TEXTURES,
    TOPPLING,
    SceneObject,
    ground_point,
)
from earl.world.solids import cast

Array = NDArray[np.float32]

PALETTE_KC: Array = np.array([PALETTE[c] for c in COLORS], np.float32)

# window around a foot, unit coordinates: left, right, up, down; wide enough for any solid and its shadow
REACH = (0.170, 0.230, 0.260, 0.095)


@dataclass(frozen=True, slots=True)
class Form:
    """A solid's looks but for its colour."""

    shape: str
    pose: str
    size: str
    texture: str

    @property
    def carries(self) -> bool:
        """Whether something can stand on it."""
        return self.shape in FLAT_TOPPED and self.pose == "upright"


FORMS: tuple[Form, ...] = tuple(
    Form(shape, pose, size, texture)
    for shape in SHAPES
    for pose in ("upright", *["toppled"] * (shape in TOPPLING), *["open"] * (shape in OPENING))
    for size in SIZES
    for texture in TEXTURES
)
FORM_INDEX = {form: i for i, form in enumerate(FORMS)}
CARRIERS = tuple(i for i, form in enumerate(FORMS) if form.carries)


def form_of(obj: SceneObject) -> int:
    """Index into `FORMS` of an object's looks."""
    return FORM_INDEX[Form(obj.shape, obj.pose, obj.size, obj.texture)]


class SpriteSheet:
    """Sprites for images of one side.

    `phases` sub-pixel positions a pixel and direction; `oversampling` rays a pixel and direction.
    A sprite is float32 (6, H, W): cover, shadow (1 = none), light, gleam (3 channels).
    """

    def __init__(self, side: int, *, phases: int, oversampling: int) -> None:
        left, right, up, down = (int(np.ceil(v * side)) + 1 for v in REACH)
        self.side, self.phases, self.oversampling = side, phases, oversampling
        self.left, self.up = left, up
        self.height, self.width = up + down, left + right
        self._sprites: dict[tuple[int, int, int], Array] = {}

    def quantise(self, x: float, y: float) -> tuple[int, int, int, int]:
        """A point in unit coordinates as (row, column) pixels and (row, column) phases."""
        p = self.phases
        qy, qx = round(y * self.side * p), round(x * self.side * p)
        return qy // p, qx // p, qy % p, qx % p

    def sprite(self, form: int, phase_y: int, phase_x: int) -> Array:
        """The sprite of a form whose foot is at pixel (up + phase_y/p, left + phase_x/p) of the window."""
        key = (form, phase_y, phase_x)
        if key not in self._sprites:
            self._sprites[key] = self._draw(*key)
        return self._sprites[key]

    def _draw(self, form: int, phase_y: int, phase_x: int) -> Array:
        f, k = FORMS[form], self.oversampling
        fx, fy = self.left + phase_x / self.phases, self.up + phase_y / self.phases
        xs = (np.arange(self.width * k, dtype=np.float32) + 0.5) / k - fx
        ys = fy - (np.arange(self.height * k, dtype=np.float32) + 0.5) / k
        shape = (len(ys), len(xs))
        radius = RADIUS[f.size] * self.side
        px = np.broadcast_to(xs[None, :], shape).reshape(-1) / radius
        py = np.broadcast_to(ys[:, None], shape).reshape(-1) / radius
        rays = (px.astype(np.float32), py.astype(np.float32))
        hit, normal, stripe, material = cast(f.shape, f.pose, *rays)
        fine = np.zeros((hit.size, 6), np.float32)
        fine[hit, 0] = 1
        parts = (normal[hit], stripe[hit], material[hit])
        first, second = (
            shade(SceneObject(f.shape, c, 0, 0, f.size, f.texture, f.pose), *parts) for c in ("red", "blue")
        )
        red, blue = PALETTE["red"], PALETTE["blue"]
        fine[hit, 2] = (first[:, 0] - second[:, 0]) / (red[0] - blue[0])
        fine[hit, 3:] = first - fine[hit, 2, None] * np.asarray(red, np.float32)
        fine[:, 1] = self._shadow(f.size, fx, fy).reshape(-1)
        sprite_HWC = fine.reshape(self.height, k, self.width, k, 6).mean((1, 3))
        return np.ascontiguousarray(sprite_HWC.transpose(2, 0, 1))

    def _shadow(self, size: str, fx: float, fy: float) -> Array:
        """The renderer's own shadow, drawn on white and cut out: (H k, W k)."""
        k = self.oversampling
        n = self.side * k
        canvas = np.ones((n, n, 1), np.float32)
        # place (row 0, column 1) shifted so that its foot falls on the wanted sub-pixel position
        left, top = ground_point(0, 1)
        row, column = round(top * self.side), round(left * self.side)
        x, y = (column + fx - self.left) / self.side, (row + fy - self.up) / self.side
        obj = SceneObject("sphere", "red", 1, 0, size, dx=x - left, dy=y - top)
        draw_shadow(canvas, obj)
        r0, c0 = (row - self.up) * k, (column - self.left) * k
        return canvas[r0 : r0 + self.height * k, c0 : c0 + self.width * k, 0]


@lru_cache(maxsize=8)
def sprite_sheet(side: int, *, pencil: bool = False) -> SpriteSheet:
    """The shared sprites for images of `side` pixels; for the pencil at twice the side."""
    if pencil:
        return SpriteSheet(2 * side, phases=2, oversampling=1)
    return SpriteSheet(side, phases=4, oversampling=2)


def stack_sprites(
    sheet: SpriteSheet, feet: list[tuple[int, float, float]], rows: slice, columns: slice
) -> Array:
    """Sprites of candidates cut to one patch of the image.

    Args:
        sheet: of the image's side.
        feet: (form, x, y) a candidate, feet in unit coordinates.
        rows, columns: the patch.

    Returns:
        float32 (N, 6, H, W).
    """
    out = np.zeros((len(feet), 6, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    out[:, 1] = 1
    for n, (form, x, y) in enumerate(feet):
        r, c, py, px = sheet.quantise(x, y)
        top, left = r - sheet.up, c - sheet.left
        r0, r1 = max(rows.start, top), min(rows.stop, top + sheet.height)
        c0, c1 = max(columns.start, left), min(columns.stop, left + sheet.width)
        if r0 < r1 and c0 < c1:
            piece = sheet.sprite(form, py, px)[:, r0 - top : r1 - top, c0 - left : c1 - left]
            out[n, :, r0 - rows.start : r1 - rows.start, c0 - columns.start : c1 - columns.start] = piece
    return out
