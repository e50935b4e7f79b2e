"""Changed latent cells of an edit, found by comparing pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earl.records import Box
from earl.vision.compose import around, by_cell
from earl.vision.images import CELL

MOST_BOXES = 4


def changed_cells(
    source: NDArray[np.uint8], target: NDArray[np.uint8], *, tolerance: int = 2, dilate: int = 1
) -> NDArray[np.bool_]:
    """The cells whose pixels differ between two images, and their neighbours.

    The vision tokenizer's receptive field reaches past a cell, so a cell beside a change may need
    another code too; farther away only its global operations (normalisation, attention) differ.

    Args:
        source: uint8 (8H, 8W, 3), or up to 7 pixels more a side, which no cell covers.
        target: the same shape.
        tolerance: levels (0-255) that do not count as a difference.
        dilate: cells, in all eight directions.

    Returns:
        bool (H, W).
    """
    assert source.shape == target.shape, "images of an edit are brought to one size"
    differs = np.any(np.abs(source.astype(np.int16) - target.astype(np.int16)) > tolerance, axis=2)
    return np.any(around(np.any(by_cell(differs), axis=(1, 3)), dilate), axis=0)


def stitch(
    source_HW: NDArray[np.integer], target_HW: NDArray[np.integer], changed_HW: NDArray[np.bool_]
) -> NDArray[np.integer]:
    """The target's codes where the image changes, the source's own everywhere else.

    The tokenizer's global operations change about a third of the codes far from an edit, invisibly;
    a stitched target asks the policy to copy there instead of guessing.
    """
    return np.where(changed_HW, target_HW, source_HW)


def changed_boxes(
    changed_HW: NDArray[np.bool_], differs: NDArray[np.bool_] | None = None, *, dilated: int = 1
) -> tuple[Box, ...]:
    """Boxes around the regions in which two images differ, the largest first.

    Args:
        changed_HW: `changed_cells` of the images.
        differs: bool (8H, 8W), the pixels that differ; with them boxes are tight, without them they
            are whole cells.
        dilated: cells by which `changed_HW` was grown, and which are taken off again.

    Returns:
        Boxes in pixels; none where nothing differs. Specks, of less than 2% of the changed area, are
        left out. More than `MOST_BOXES` regions, or a change of most of the image, are one box around all.
    """
    rows, columns = changed_HW.shape
    core_HW = ~np.any(around(~changed_HW, dilated), axis=0)
    if differs is not None:
        core_HW &= np.any(by_cell(differs), axis=(1, 3))
    if not core_HW.any():
        core_HW = changed_HW
    regions = [region for region in _regions(core_HW) if len(region) >= 0.02 * core_HW.sum()]
    boxes = sorted((_around(region, differs) for region in regions), key=_area, reverse=True)
    if len(boxes) > MOST_BOXES or (boxes and sum(map(_area, boxes)) > 0.8 * rows * columns * CELL * CELL):
        left, top = min(box.left for box in boxes), min(box.top for box in boxes)
        boxes = [Box(left, top, max(box.right for box in boxes), max(box.bottom for box in boxes))]
    return tuple(boxes)


def _regions(cells_HW: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Cells (N, 2) of each region that hangs together, corners included."""
    left = {(int(row), int(column)) for row, column in np.argwhere(cells_HW)}
    regions = []
    while left:
        region = edge = [left.pop()]
        while edge:
            around = {(r + down, c + across) for r, c in edge for down in (-1, 0, 1) for across in (-1, 0, 1)}
            edge = sorted(around & left)
            left -= set(edge)
            region = region + edge
        regions.append(np.array(region))
    return regions


def _around(region: NDArray[np.int64], differs: NDArray[np.bool_] | None) -> Box:
    """The box around a region's cells, or around the differing pixels in them."""
    (top, left), (bottom, right) = region.min(axis=0) * CELL, (region.max(axis=0) + 1) * CELL
    if differs is not None:
        inside = np.zeros_like(differs)
        for row, column in region * CELL:
            inside[row : row + CELL, column : column + CELL] = True
        inside &= differs
        if inside.any():
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Box(float(left), float(top), float(right), float(bottom))


def _area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)
