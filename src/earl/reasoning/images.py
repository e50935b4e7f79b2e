"""The two images of a prepared edit, as a model is shown them: decoded from codes, or the source's own.

Prepared shards hold codes. Decoded images need nothing else; the source's own images are
sharper, and are found again by going through the source in the order in which it was prepared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from earl.data.overlap import exact_hash
from earl.data.shards import PART, Edit
from earl.data.sources.opening import OpenedSource
from earl.errors import DataError, EarlError
from earl.vision.images import open_image

Pair = tuple[Image.Image, Image.Image]
_TOGETHER = 8  # edits decoded in one call


class Images(Protocol):
    """Source and target of each of a shard's edits, in their order. `exact` says whether the pixels
    are the source's own."""

    exact: bool

    def of(self, shard: Path, edits: Sequence[Edit]) -> Iterator[Pair]: ...


class Decoder(Protocol):
    """The part of a `VisionTokenizer` that is needed here."""

    def decode(self, codes: Sequence[Any]) -> list[Image.Image]: ...
    def fingerprint(self) -> str: ...


class DecodedImages:
    """Images from the shards' codes.

    Args:
        decoder: the vision tokenizer that made the codes.
        fingerprint: of the one that the shards name.
        name: of the decoder, for messages.

    Raises:
        DataError: it is another one.
    """

    exact = False

    def __init__(self, decoder: Decoder, fingerprint: str, name: str = "the vision tokenizer") -> None:
        if decoder.fingerprint() != fingerprint:
            raise DataError(
                f"the codes were made by tokenizer {fingerprint}, {name} is {decoder.fingerprint()}; "
                "give the one that prepared them"
            )
        self.decoder = decoder

    def of(self, shard: Path, edits: Sequence[Edit]) -> Iterator[Pair]:
        for start in range(0, len(edits), _TOGETHER):
            part = edits[start : start + _TOGETHER]
            codes = [grid for edit in part for grid in (edit.source_codes, edit.target_codes)]
            images = self.decoder.decode(codes)
            yield from zip(images[::2], images[1::2], strict=True)


class SourceImages:
    """Images from the files that the shards were prepared from."""

    exact = True

    def __init__(self, source: OpenedSource) -> None:
        self.source = source

    def of(self, shard: Path, edits: Sequence[Edit]) -> Iterator[Pair]:
        """Raises DataError: the source does not hold these edits, or other images of them."""
        self.source.give({edit.id: edit.instruction for edit in edits}, origin="shards")
        reads = self.source.read(_first_row(shard))
        for edit in edits:
            sample = next((read.sample for read in reads if read.id == edit.id and read.sample), None)
            if sample is None or sample.target is None:
                raise DataError(
                    f"{self.source.rows.name} has no edit {edit.id!r} with a target where {shard} had it; "
                    "give the source that it was prepared from, with the same options"
                )
            try:
                pair = open_image(sample.source), open_image(sample.target)
            except EarlError as error:
                raise DataError(f"the images of {edit.id} cannot be read any more: {error}") from error
            if edit.source_hash and exact_hash(pair[0]) != edit.source_hash:
                raise DataError(
                    f"the source image of {edit.id} is not the one that {shard} was prepared from"
                )
            yield pair


def _first_row(shard: Path) -> int:
    try:
        return int(json.loads((shard / PART).read_text(encoding="utf-8"))["first"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{shard} does not say which rows of a source it holds; give --vision and not a source"
        ) from error
