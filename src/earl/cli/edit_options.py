"""The options of `earl edit`: which words are images, and which are instructions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from earl.config import Settings
from earl.config.options import JSON, OUT, POSITIONAL, Option
from earl.files import TABLES

STREAM = Path("-")


class EditOptions(Settings):
    source: Annotated[Path, POSITIONAL] = Field(
        description="the image to edit, or several; - for standard input; a folder of images; jobs as JSON "
        "Lines or CSV"
    )
    words: Annotated[tuple[str, ...], Option(positional=True, metavar="INSTRUCTION")] = Field(
        default=(),
        description="what to change, as 'make the red cube blue'; of several, each edits the last result",
    )
    out: Annotated[Path | None, OUT] = Field(
        default=None,
        description="where to write (default: SOURCE-edited.png in this folder); - for standard output; a "
        "folder, for several images or one",
    )
    force: bool = Field(default=False, description="overwrite files that exist")
    num_images: int = Field(default=1, ge=1, le=64, description="images to make, of the seeds S, S + 1, …")
    best_of: int = Field(default=1, ge=1, le=64, description="images to draw; the best is kept")
    area: int | None = Field(default=None, ge=64, description="px² to work at (default: the model's)")
    source_size: bool = Field(default=False, description="scale the result to the source's size")
    keep_outside: bool = Field(
        default=False, description="the source's own pixels, at its size, where the edit changed nothing"
    )
    mask: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None,
        description="image of the source's size, transparent or white where the edit may change it; "
        "implies --keep-outside",
    )
    before_after: bool = Field(default=False, description="also write source and result side by side")
    provenance: bool = Field(
        default=True, description="store no model, seed and hash of the instruction in the images"
    )
    as_json: Annotated[bool, JSON] = Field(default=False, description="print JSON")

    def problems(self) -> Iterator[str]:
        if self.best_of > 1 and self.num_images > 1:
            yield "best_of keeps one of several images: leave out num_images"
        if (self.keep_outside or self.mask) and self.source_size:
            yield "keep_outside and mask give the source's size: leave out source_size"
        if self.mask and self.many:
            yield "mask belongs to one image: leave out further images, folders and lists of jobs"
        if self.out == STREAM and (self.num_images > 1 or self.before_after or self.as_json or self.many):
            yield "standard output takes one image: leave out num_images, before_after, json, further images"
        if STREAM in self.sources and self.many:
            yield "standard input is one image, edited into a file: leave out further images and folders"
        for word in self.instructions:
            if _names_source(word, last=True):
                yield f"{word!r} stands behind an instruction; images come first, then what to change"

    @property
    def _more(self) -> int:
        """The number of words that name further sources."""
        last = len(self.words) - 1
        names = (_names_source(word, last=place == last) for place, word in enumerate(self.words))
        return len(list(takewhile(bool, names)))

    @property
    def sources(self) -> tuple[Path, ...]:
        return (self.source, *map(Path, self.words[: self._more]))

    @property
    def instructions(self) -> tuple[str, ...]:
        from earl.sequence.instruction import trimmed

        return tuple(map(trimmed, self.words[self._more :]))

    @property
    def many(self) -> bool:
        """Several images, a list of jobs, or a folder to write to."""
        folder = self.out is not None and self.out != STREAM and (self.out.is_dir() or not self.out.suffix)
        listed = self.source.suffix.lower() in TABLES or self.source.is_dir()
        return len(self.sources) > 1 or listed or folder


def _names_source(word: str, *, last: bool) -> bool:
    """Whether a word after the first source names another source. The last word is usually an instruction."""
    from earl.vision.images import SUFFIXES

    exists = os.path.exists(word)  # False for a text too long to be a path
    if Path(word).suffix.lower() in (*SUFFIXES, *TABLES):
        return exists or len(word.split()) == 1
    return exists and (os.sep in word or not last)
