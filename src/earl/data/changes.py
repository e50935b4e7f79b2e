"""Which latent cells of an edit change, judged by its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL = 8
"""Pixels of a latent cell, down and across."""


def changed_cells(
    source: NDArray[np.uint8], target: NDArray[np.uint8], *, tolerance: int = 2, dilate: int = 1
) -> NDArray[np.bool_]:
    """The cells whose pixels differ between two pictures, and their neighbours.

    The vision tokenizer's receptive field reaches past a cell, so a cell beside a change may need
    another code too; farther away only its global operations (normalisation, attention) differ.

    Args:
        source: uint8 (8H, 8W, 3).
        target: the same shape.
        tolerance: levels (0-255) that do not count as a difference.
        dilate: cells, in all eight directions.

    Returns:
        bool (H, W).
    """
    assert source.shape == target.shape and source.shape[0] % CELL == 0 and source.shape[1] % CELL == 0
    differs = (np.abs(source.astype(np.int16) - target.astype(np.int16)) > tolerance).any(axis=2)
    rows, columns = differs.shape[0] // CELL, differs.shape[1] // CELL
    cells_HW = differs.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
    padded = np.pad(cells_HW, dilate)
    grown = np.zeros_like(cells_HW)
    for down in range(2 * dilate + 1):
        for across in range(2 * dilate + 1):
            grown |= padded[down : down + rows, across : across + columns]
    return grown


def stitch(
    source_HW: NDArray[np.integer], target_HW: NDArray[np.integer], changed_HW: NDArray[np.bool_]
) -> NDArray[np.integer]:
    """The target's codes where the picture changes, the source's own everywhere else.

    The tokenizer's global operations change about a third of the codes far from an edit, invisibly;
    a stitched target asks the policy to copy there instead of guessing.
    """
    return np.where(changed_HW, target_HW, source_HW)
