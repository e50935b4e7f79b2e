"""Rows to tokenised edits: images opened, brought to one size, compared, encoded in one batch.

Whether a row is kept, and what becomes of it, depends on the row and the settings alone: one
process or many make the same edits of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.config.data import HoldoutSettings, PreparationSettings
from earl.data.changes import changed_cells
from earl.data.overlap import exact_hash, look_hash
from earl.data.shards import Edit
from earl.data.sources.sample import ImageRef, Read, Sample, image_bytes
from earl.errors import DataError, EarlError
from earl.records import Box, Point, SizeRule
from earl.sequence.reasoning import clean_reasoning, scale_box, scale_boxes, scale_point
from earl.vision.images import open_image, open_raster, resize_pair, resize_to, target_size, upright


class Encoder(Protocol):
    """The part of a `VisionTokenizer` that is needed here."""

    codebook_size: int

    @property
    def rule(self) -> SizeRule: ...
    def encode(self, images: Sequence[Any], resize: bool = True) -> list[NDArray[np.int32]]: ...
    def fingerprint(self) -> str: ...


HELD = ("validation", "test")
"""The splits that the holdouts give their images to."""
_LEAST_SIDE = 8  # px
_NONE = b""  # stands for the key of a missing image
_MOST_STRETCH = 1.5  # a target of another aspect than this times the source's is another image


@dataclass(frozen=True)
class Made:
    """A tokenised block of rows: its edits, and the rows that were refused (row, id, reason).
    `end` is the number of the row after it, `reads` how many rows it had."""

    end: int
    reads: int
    edits: list[Edit]
    refused: list[dict[str, Any]]


@dataclass(frozen=True)
class _Images:
    """A sample's images resized to one size; boxes, keypoints and hashes come from their original size."""

    sample: Sample
    source: Image.Image
    target: Image.Image | None
    other: Image.Image | None
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    keypoints: tuple[Point, ...] = ()
    hashes: dict[str, Any] = field(default_factory=dict)


def make_edits(block: Sequence[Read], encoder: Encoder, settings: PreparationSettings, split: str) -> Made:
    """The edits of a block of rows, at least one.

    Args:
        split: that the folder is made for; a holdout leaves the rows of other splits out.
    """
    ours = [read for read in block if on_side(read, settings, split)]
    opened = [_open(read, settings) for read in ours]
    edits = list(_encode([item for item in opened if isinstance(item, _Images)], encoder, settings))
    refused = [
        {"row": read.number, "id": read.id, "reason": result}
        for read, result in zip(ours, opened, strict=True)
        if isinstance(result, str)
    ]
    return Made(block[-1].number + 1, len(block), edits, refused)


def on_side(read: Read, settings: HoldoutSettings, split: str) -> bool:
    """Whether a row is on this split's side of the holdouts; rows that cannot be read are on every side."""
    validation, test = settings.holdout, settings.holdout_test
    if not (validation or test) or read.sample is None:
        return True
    lot = _lot(read.sample)
    held = "validation" if lot < validation else "test" if lot < validation + test else ""
    return held == split if held or split in HELD else True


def _lot(sample: Sample) -> float:
    """A number in [0, 1) from a hash of the source image's bytes, so that all its edits share one split."""
    try:
        data = image_bytes(sample.source if sample.origin is None else sample.origin)
    except (OSError, ValueError):
        data = sample.id.encode()  # the sample is refused whichever split it is in
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big") / 2**48


def _open(read: Read, settings: PreparationSettings) -> _Images | str:
    """A sample's images, or the reason why there are none."""
    if read.sample is None:
        return read.problem
    sample, part = read.sample, "the source image"
    try:
        source = open_image(sample.source)
        target = None
        if sample.target is not None:
            part = "the target image"
            target = open_image(sample.target)
            _check_pair(source, target)
        other = None
        if sample.other is not None:
            part = "the other image"
            if target is None:
                return "there is another image, and no target that is better"
            other = open_image(sample.other)
            _check_pair(source, other)
        part = "the source image"
        if min(source.size) < _LEAST_SIDE:
            return (
                f"the source image has {source.width}x{source.height} pixels; at least {_LEAST_SIDE} a side"
            )
        size = source.size
        boxes = tuple(_in_pixels(box, size) for box in sample.boxes)
        shares = all(max(point) <= 1 for point in sample.keypoints)
        across, down = size if shares else (1, 1)
        keypoints = tuple((x * across, y * down) for x, y in sample.keypoints)
        if not boxes and sample.mask is not None:
            boxes = mask_box(sample.mask, size)
        hashes = {"source_hash": exact_hash(source), "source_look": look_hash(source)}
        if target is None:
            source = resize_to(source, target_size(*size, settings.area, settings.rule))
        else:
            hashes |= {"target_hash": exact_hash(target), "target_look": look_hash(target)}
            original = source
            source, target = resize_pair(original, target, settings.area, settings.rule)
            if other is not None:
                other = resize_pair(original, other, settings.area, settings.rule)[1]
        return _Images(sample, source, target, other, size, boxes, keypoints, hashes)
    except EarlError as error:
        return f"{part}: {error}"


def _check_pair(source: Image.Image, target: Image.Image) -> None:
    aspects = source.width / source.height, target.width / target.height
    if max(aspects) > _MOST_STRETCH * min(aspects):
        raise DataError(
            f"{target.width}x{target.height} pixels, the source has {source.width}x{source.height}: "
            "not the same image"
        )


def _encode(pairs: Sequence[_Images], encoder: Encoder, settings: PreparationSettings) -> Iterator[Edit]:
    """Codes of all images of a batch in one call; equal images are encoded once."""
    images: dict[bytes, Image.Image] = {}
    keys: list[tuple[bytes, bytes, bytes]] = []
    for item in pairs:
        key, target_key, other_key = map(_key, (item.source, item.target, item.other))
        keys.append((key, target_key, other_key))
        for name, image in zip(keys[-1], (item.source, item.target, item.other), strict=True):
            if image is not None:
                images.setdefault(name, image)
    codes = dict(zip(images, encoder.encode(list(images.values()), resize=False), strict=True))
    codes[_NONE] = np.zeros((0, 0), np.int32)
    for item, (source_key, target_key, other_key) in zip(pairs, keys, strict=True):
        sample, source_codes = item.sample, codes[source_key]
        target_codes, other_codes = codes[target_key], codes[other_key]
        changed, other_changed = (_changed(item.source, one, settings) for one in (item.target, item.other))
        drawn = [one for one in sample.codes if one.shape == source_codes.shape]
        if drawn and len(drawn) == len(sample.codes):  # what a model copied is the source's code
            target_codes, changed = drawn[0], drawn[0] != source_codes
            if len(drawn) > 1:
                other_codes, other_changed = drawn[1], drawn[1] != source_codes
        if item.target is None:
            changed = np.zeros(source_codes.shape, bool)
        yield Edit(
            id=sample.id,
            source=source_key.hex(),
            source_codes=source_codes,
            target_codes=target_codes,
            other_codes=other_codes,
            other_changed=other_changed,
            changed=changed,
            instruction=sample.instruction,
            reasoning=scale_boxes(clean_reasoning(sample.reasoning), item.size, item.source.size),
            family=sample.family,
            group=sample.group,
            source_caption=sample.source_caption,
            target_caption=sample.target_caption,
            boxes=tuple(scale_box(box, item.size, item.source.size) for box in item.boxes),
            keypoints=tuple(scale_point(point, item.size, item.source.size) for point in item.keypoints),
            licence=sample.licence,
            split=sample.split,
            **item.hashes,
        )


def _changed(
    source: Image.Image, edited: Image.Image | None, settings: PreparationSettings
) -> NDArray[np.bool_]:
    """The cells that an edit changes, by its pixels; (0, 0) without one."""
    if edited is None:
        return np.zeros((0, 0), bool)
    pixels = np.asarray(source), np.asarray(resize_to(edited, source.size))
    return changed_cells(*pixels, tolerance=settings.tolerance, dilate=settings.margin)


def mask_box(mask: ImageRef, size: tuple[int, int]) -> tuple[Box, ...]:
    """The box around the marked region of a mask image, in pixels of an image of `size`.

    Marked is what is transparent where there is transparency, else what is white in an image of
    black and white. A mask of another kind, or that marks nothing or everything, gives no box.
    """
    try:
        opened = (
            mask
            if isinstance(mask, Image.Image)
            else open_raster(mask if isinstance(mask, bytes) else mask.read_bytes())
        )
        opened.load()
        opened = upright(opened)
    except Exception:  # a mask is a help, and no reason to refuse a sample
        return ()
    if opened.mode in ("RGBA", "LA", "PA"):
        marked = np.asarray(opened.convert("RGBA"))[..., 3] < 128
    else:
        grey = np.asarray(opened.convert("L"))
        if ((grey > 16) & (grey < 239)).mean() > 0.02:
            return ()
        marked = grey >= 128
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows) or marked.all():
        return ()
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return (scale_box(box, opened.size, size),)


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    sides = box.left, box.top, box.right, box.bottom
    if max(sides) > 1:
        return box
    return Box(box.left * size[0], box.top * size[1], box.right * size[0], box.bottom * size[1])


def _key(image: Image.Image | None) -> bytes:
    if image is None:
        return _NONE
    return hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=8).digest()
