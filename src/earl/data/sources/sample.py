"""One edit as its source tells it, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from earl.records import Box

ImageRef: TypeAlias = "bytes | Path"
"""An image file: its bytes, or where it lies. `earl.vision.open_image` takes both."""

Group = Literal["simple", "complex"]


@dataclass(frozen=True, slots=True)
class Sample:
    """An edit: a source image and an instruction, perhaps with its result and how it was reasoned.

    `boxes` are in pixels of the upright source image, or in shares of its sides where none is over
    1; a `mask` marks the edited region where there are no boxes. `target` is missing in data that
    only reinforcement learning or evaluation can use. Empty texts mean that there is none.
    """

    id: str
    source: ImageRef
    target: ImageRef | None
    instruction: str
    family: str = ""
    group: Group = "simple"
    reasoning: str = ""
    boxes: tuple[Box, ...] = ()
    mask: ImageRef | None = None
    source_caption: str = ""
    target_caption: str = ""
    licence: str = ""
    split: str = "train"
