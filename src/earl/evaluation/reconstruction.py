"""Reconstruction quality of a vision tokenizer: the images of a folder encoded, decoded and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from earl.errors import DataError, EarlError
from earl.evaluation.metrics import psnr
from earl.vision.images import SUFFIXES, image_files, open_image, resize_to, target_size
from earl.vision.tokenizer import VisionTokenizer

LOW = 24.0  # dB; below it small text, faces and fine texture are visibly lost

_BATCH = 16  # images at once


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """One image at the tokenizer's size, the image decoded from its tokens, and the PSNR of the two in dB."""

    path: Path
    image: Image.Image
    decoded: Image.Image
    psnr: float


def reconstructions(
    folder: Path,
    vision: VisionTokenizer,
    *,
    limit: int = 0,
    on_problem: Callable[[Path, str], None] = lambda path, problem: None,
) -> Iterator[Reconstruction]:
    """The images of a folder and of those in it, in the order of their names.

    Args:
        limit: images at most; 0: all.
        on_problem: called with a file that cannot be read, and why.

    Raises:
        DataError: there is no image.
    """
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    opened = _opened(files[: limit or None], vision, on_problem)
    while block := list(islice(opened, _BATCH)):
        decoded = vision.decode(vision.encode([image for _, image in block], resize=False))
        for (path, image), back in zip(block, decoded, strict=True):
            pair = (np.asarray(one, np.float64) / 255 for one in (image.crop((0, 0, *back.size)), back))
            yield Reconstruction(path, image, back, psnr(*pair))


def _opened(
    files: Sequence[Path], vision: VisionTokenizer, on_problem: Callable[[Path, str], None]
) -> Iterator[tuple[Path, Image.Image]]:
    for path in files:
        try:
            image = open_image(path)
            yield path, resize_to(image, target_size(*image.size, vision.area, vision.rule))
        except EarlError as error:
            on_problem(path, str(error))
