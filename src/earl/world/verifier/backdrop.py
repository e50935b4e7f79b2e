"""First pass of perception: background, style, and rough candidates for each place.

Images are compared at half the working side, where a little blur or a shift by a pixel does
not matter. Axis letters: K kinds (form x colour), D pixels of a place's window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from earl.world.scene import BACKGROUNDS, COLORS, COLUMNS, ROWS, STYLES, ground_point
from earl.world.verifier.canvas import HUELESS, Patch, Solid, foot_of, halved, shared_canvas, soften
from earl.world.verifier.sprites import FORMS

Array = NDArray[np.float32]

KINDS: tuple[tuple[int, int], ...] = tuple((f, c) for f in range(len(FORMS)) for c in range(len(COLORS)))
BACKDROPS: tuple[tuple[str, str], ...] = tuple((b, s) for s in STYLES for b in BACKGROUNDS)
PLACES: tuple[tuple[int, int], ...] = tuple((r, c) for r in range(ROWS) for c in range(COLUMNS))


@lru_cache(maxsize=8)
def _empty_views(side: int) -> Array:
    return np.stack([halved(shared_canvas(side, b, s).compose([])) for b, s in BACKDROPS])


def read_backdrop(pixels_CHW: Array) -> tuple[str, str]:
    """Background and style of an image, with solids or without.

    The median over rows and capped differences keep solids from having a say: the sky and the
    gaps between solids decide.
    """
    views = _empty_views(pixels_CHW.shape[1])
    apart = np.abs(views - halved(pixels_CHW))
    # a solid covers part of a row; the better half of each row's pixels is background
    per_pixel = np.minimum(apart.mean(1), 0.25)
    rows = np.sort(per_pixel, axis=2)[:, :, : per_pixel.shape[2] // 2].mean(2)
    return BACKDROPS[int(rows.mean(1).argmin())]


def window(side: int, row: int, column: int) -> Patch:
    """The pixels around a ground place that its solid may fill, clipped to the image, even bounds."""
    return _around(side, row, column, (-0.27, 0.095, -0.16, 0.19), side)


def _core(side: int, row: int, column: int) -> Patch:
    """A narrower window, mostly free of the neighbours' solids, for rough comparison."""
    return _around(side, row, column, (-0.25, 0.075, -0.14, 0.14), side - 2)


def _around(side: int, row: int, column: int, reach: tuple[float, ...], most: int) -> Patch:
    """Window of `reach` (up, down, left, right) around a ground place, at even pixels up to `most`."""
    x, y = ground_point(row, column)
    ends = (2 * round((v + d) * side / 2) for v, d in zip((y, y, x, x), reach, strict=True))
    return Patch(*(min(most, max(0, end)) for end in ends))


@lru_cache(maxsize=512)
def _templates(
    side: int, background: str, style: str, row: int, column: int, low: bool
) -> tuple[Patch, Array, Array]:
    """All kinds alone at a place, then the empty place: patch, (K+1, D), squared norms (K+1,)."""
    canvas = shared_canvas(side, background, style)
    wide = _core(side, row, column)
    if low:  # only where the lower part of a stack shows
        wide = Patch(wide.bottom - 2 * round(0.075 * side), wide.bottom, wide.left, wide.right)
    # softening takes a pixel off each edge; keep the window's origin on even pixels of `seen`
    patch = Patch(wide.top, wide.bottom + 2, wide.left, wide.right + 2)
    around = canvas.surroundings([], None, patch)
    feet = [(f, *foot_of(Solid(f, c, row, column, 0))) for f, c in KINDS]
    images = [canvas.draw(around, patch, feet[i : i + 48], [c for _, c in KINDS[i : i + 48]], 0)
                for i in range(0, len(KINDS), 48)]  # fmt: skip
    drawn = np.concatenate([*images, canvas.empty(around, patch)])
    cut = soften(drawn)[..., : wide.bottom - wide.top, : wide.right - wide.left] * np.float32(1 / 16)
    small = halved(cut)
    flat = np.ascontiguousarray(small.reshape(len(small), -1))
    return wide, flat, (flat * flat).sum(1)


def rough(
    seen_CHW: Array, side: int, background: str, style: str, row: int, column: int, *, low: bool = False
) -> tuple[Array, float]:
    """Squared differences of all kinds alone at a place from the softened pixels, and the empty place's.

    Args:
        seen_CHW: softened pixels as the canvas compares them.
        side: the working side.
        low: look only at the lowest part of the place.

    Returns:
        (K,) and a float, summed over pixels and channels.
    """
    patch, flat, norms = _templates(side, background, style, row, column, low)
    piece = halved(seen_CHW[:, patch.top : patch.bottom, patch.left : patch.right]).reshape(-1) * np.float32(
        1 / 16
    )
    weight = 3.0 if style in HUELESS else 1.0
    apart = (norms - 2 * (flat @ piece) + float(piece @ piece)) * weight
    return apart[:-1], float(apart[-1])
