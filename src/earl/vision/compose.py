"""Compositing: the source's own pixels outside an edit, at the source's full size.

A tokenizer costs detail everywhere, also where nothing was asked for, and about a third of the codes outside
an edit differ by chance. What changed is therefore found in pixels: the edited image is compared, cell by
cell, with the source after the same pass through the tokenizer.

Axes: H W pixels, R K rows and columns of cells, C channels.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from earl.errors import ImageError
from earl.vision.images import CELL, ImageSource, open_file, open_image, open_raster, read_source, upright

THRESHOLD = 10.0  # mean difference of a cell that counts as changed, levels of 255
_STRONG = 2.5  # a lone cell counts only from so many thresholds
_FEATHER = 0.5  # cells over which the seam is blended, about


def changed_cells(before: Image.Image, after: Image.Image, threshold: float = THRESHOLD) -> NDArray[np.bool_]:
    """Cells in which an edit changed the image, and their neighbours.

    Args:
        before: the source after a pass through the tokenizer, RGB.
        after: the edited image, RGB of the same size.
        threshold: mean absolute difference over a cell's pixels and channels, levels of 255.

    Returns:
        bool (rows, columns) of 8 x 8 pixels. A lone cell needs 2.5 times the threshold; what is left is
        widened by one cell each way, for the tokenizer sees past a cell.

    Raises:
        ImageError: images of two sizes, or smaller than a cell.
    """
    if before.size != after.size or min(before.size) < CELL:
        raise ImageError(
            f"images of {before.width}x{before.height} and {after.width}x{after.height} pixels cannot be "
            "compared by cells; give two of one size, at least 8x8"
        )
    difference_HWC = np.abs(np.asarray(before, np.float32) - np.asarray(after, np.float32))
    difference_RK = by_cell(difference_HWC).mean(axis=(1, 3, 4))
    changed = difference_RK > threshold
    lone = around(changed).sum(axis=0) == 1  # it alone
    changed &= ~lone | (difference_RK > _STRONG * threshold)
    return np.any(around(changed), axis=0)


def keep_outside(source: Image.Image, edited: Image.Image, inside: Image.Image) -> Image.Image:
    """The edited image inside a mask, the source outside, with a blended seam.

    Args:
        source: RGB, at the size that the result is to have.
        edited: RGB, of any size with the source's aspect; scaled to the source's.
        inside: mode L or 1, of any size: white where the edit counts.

    Returns:
        RGB at the source's size. Beyond the seam's width the pixels are the source's own.
    """
    full = edited.resize(source.size, Image.Resampling.LANCZOS)
    cell = max(source.size[0] / edited.size[0], source.size[1] / edited.size[1]) * CELL
    mask = inside.convert("L").resize(source.size, Image.Resampling.NEAREST)
    seam = mask.filter(ImageFilter.GaussianBlur(_FEATHER * cell / 2))
    return Image.composite(full, source, seam)


def open_mask(source: ImageSource, size: tuple[int, int]) -> Image.Image:
    """Where an edit may change an image: mode 1, white there.

    Args:
        source: as in `open_image`. Transparent where the image may change, as in OpenAI's API; where no pixel
            is, white there, as diffusion pipelines have it.
        size: width and height of the image.

    Raises:
        ImageError: not an image, or of another size.
    """
    image: Any = source
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):  # read once: it may be a pipe
        name, data = read_source(source)
        levels, image = open_file(name, data).convert("L"), open_raster(data)
    else:
        levels = open_image(source).convert("L")
    if isinstance(image, Image.Image) and image.has_transparency_data:
        clear = upright(image).convert("RGBA").getchannel("A").point(lambda alpha: 255 * (alpha < 128))
        levels = clear if clear.getbbox() else levels  # programs store opaque alpha unasked
    if levels.size != size:
        raise ImageError(
            f"the mask has {levels.width}x{levels.height} pixels, the image {size[0]}x{size[1]}; give them "
            "one size"
        )
    return levels.point(lambda level: 255 * (level >= 128)).convert("1")


def mask_of(cells: NDArray[np.bool_]) -> Image.Image:
    """A mask of 8 x 8 pixels a cell, mode L."""
    return Image.fromarray(np.repeat(np.repeat(cells, CELL, 0), CELL, 1).astype(np.uint8) * 255, mode="L")


def cells_inside(mask: Image.Image, rows: int, columns: int) -> NDArray[np.bool_]:
    """Cells that a mask touches: bool (rows, columns).

    Args:
        mask: mode L or 1, of any size, white where the edit may change the image.
    """
    scaled = mask.convert("L").resize((columns * CELL, rows * CELL), Image.Resampling.BOX)
    return by_cell(np.asarray(scaled)).max(axis=(1, 3)) > 0


def given_codes(codes_HW: NDArray[Any], mask: Image.Image | None) -> tuple[int, ...] | None:
    """The source's codes outside a mask, row by row, -1 inside; None without a mask.

    Raises:
        ImageError: the mask touches no cell.
    """
    if mask is None:
        return None
    inside_HW = cells_inside(mask, *codes_HW.shape)
    if not inside_HW.any():
        raise ImageError(
            "the mask leaves nothing to change; make it transparent, or white, where the edit may change the "
            "image"
        )
    return tuple(np.where(inside_HW, -1, codes_HW).ravel().tolist())


def by_cell(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (H, W, …) as (rows, 8, columns, 8, …); what is left over of the last cells is cut off."""
    rows, columns = pixels.shape[0] // CELL, pixels.shape[1] // CELL
    whole = pixels[: rows * CELL, : columns * CELL]
    return whole.reshape(rows, CELL, columns, CELL, *pixels.shape[2:])


def around(cells: NDArray[np.bool_], by: int = 1) -> NDArray[np.bool_]:
    """For each cell those up to `by` away, itself among them: ((2 by + 1)², rows, columns)."""
    rows, columns = cells.shape
    padded, steps = np.pad(cells, by), range(2 * by + 1)
    return np.stack([padded[d : d + rows, a : a + columns] for d in steps for a in steps])
