"""One edit as its source gives it, before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earl.records import Box, EditGroup, Point

if TYPE_CHECKING:
    from PIL.Image import Image

ImageRef: TypeAlias = "bytes | Path | Image"
"""An image file's bytes, its path, or an opened image: what `earl.vision.images.open_image` takes."""


def image_bytes(image: ImageRef) -> bytes:
    """An image's file, or the pixels of an opened one. Raises OSError, ValueError."""
    if isinstance(image, bytes):
        return image
    return image.read_bytes() if isinstance(image, Path) else image.tobytes()


@dataclass(frozen=True, slots=True)
class Sample:
    """An edit: a source image and an instruction, perhaps with its result and how it was reasoned.

    `boxes` and `keypoints` are in pixels of the upright source image, or in shares of its sides where none
    is over 1; a `mask` marks the edited region where there are no boxes. `target` is missing in data that
    only reinforcement learning or evaluation can use. `other` is a worse edit than the target, for
    preference tuning. `codes` are the image codes of target and other where a model of the same vision
    tokenizer drew them: encoding its images again would give others. `details` are texts of a benchmark's
    row that its own questions need, by column. `origin` is the source's file where `source` was made of it.
    Empty texts mean that there is none.
    """

    id: str
    source: ImageRef
    target: ImageRef | None
    instruction: str
    family: str = ""
    group: EditGroup = "simple"
    reasoning: str = ""
    boxes: tuple[Box, ...] = ()
    keypoints: tuple[Point, ...] = ()
    mask: ImageRef | None = None
    source_caption: str = ""
    target_caption: str = ""
    licence: str = ""
    split: str = ""
    other: ImageRef | None = None
    codes: tuple[NDArray[np.int32], ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    origin: ImageRef | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """A row as read: its sample, or the reason for having none (`sample` None). `number` counts from 0."""

    number: int
    id: str
    sample: Sample | None
    problem: str = ""
