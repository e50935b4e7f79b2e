"""A source to tokenised shards: opened, resized as pairs, encoded in batches, written whole.

Each shard holds the rows from the end of the one before; it appears by one rename, together with
the list of what was refused among them. So a run that is killed at any moment goes on at the row
after its last shard, and no sample is lost or doubled. Memory holds one shard's codes and one
batch of pictures, however large the source is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earl.data.changes import changed_cells
from earl.data.overlap import exact_hash, look_hash
from earl.data.shards import PART, Edit, shard_path, start_folder, write_shard
from earl.data.sources import OpenedSource, Read, Sample
from earl.data.world import Encoder
from earl.errors import DataError, EarlError
from earl.records import Box
from earl.sequence.reasoning import clean_reasoning, scale_box, scale_boxes
from earl.vision import open_image, resize_pair, resize_to, target_size

REJECTED = "rejected.jsonl"
HELD = "validation"
"""The split that a holdout gives its pictures to."""
_SURE = 20  # rows from which a share of refused ones is judged while reading goes on
_LEAST_SIDE = 8  # px
_MOST_STRETCH = 1.5  # a target of another aspect than this times the source's is another picture


@dataclass(frozen=True)
class Preparation:
    """How a source is prepared.

    `area` in px²; `tolerance` in levels (0-255) below which pixels count as unchanged; `batch` pairs of
    pictures encoded at once; `readers` threads that open pictures; `max_rejected` is a
    share (0-1). With `holdout` the share of source pictures, chosen by their bytes, that the split
    "validation" keeps and every other split leaves out. `limit` rows at most; 0 takes all.
    """

    area: int = 256 * 256
    tolerance: int = 16
    shard_rows: int = 512
    batch: int = 16
    readers: int = 0
    max_rejected: float = 0.05
    holdout: float = 0.0
    limit: int = 0


@dataclass
class Counts:
    """What became of the rows so far; `rows` is the number of the next row, `reads` how many were
    looked at (not those of other sources in the same files)."""

    rows: int = 0
    reads: int = 0
    edits: int = 0
    rejected: int = 0
    shards: int = 0

    def add(self, part: Mapping[str, Any]) -> None:
        """Count one more shard, by what it says of itself."""
        self.rows = part["end"]
        self.reads += part["reads"]
        self.edits += part["edits"]
        self.rejected += part["rejected"]
        self.shards += 1

    @property
    def share(self) -> float:
        return self.rejected / max(1, self.rejected + self.edits)


@dataclass(frozen=True)
class _Pictures:
    """A sample's pictures at one size, and what was read off them at their own."""

    sample: Sample
    source: Image.Image
    target: Image.Image | None
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    hashes: dict[str, str] = field(default_factory=dict)


def prepare_source(
    source: OpenedSource,
    folder: str | Path,
    encoder: Encoder,
    settings: Preparation | None = None,
    *,
    on_progress: Callable[[Counts], None] | None = None,
) -> Counts:
    """Write a source's edits as shards into a folder, or continue where that stopped.

    Refused samples are in `rejected.jsonl` (row, id, reason).

    Raises:
        DataError: the folder holds something else, another process writes to it, the source cannot be
            read on, no edit is left, or more than the allowed share was refused.
        CheckpointError: the disk is full; what was written is intact.
    """
    folder, settings = Path(folder), settings or Preparation()
    start_folder(folder, _made_with(source, encoder, settings))
    with _only_one(folder), _pool(settings.readers) as pool:
        counts = _continue(folder)
        if on_progress:
            on_progress(counts)
        reads: Iterator[Read] = source.read(counts.rows)
        if settings.limit:
            reads = islice(reads, max(0, settings.limit - counts.reads))
        while _shard(reads, folder, source, encoder, settings, counts, pool):
            if on_progress:
                on_progress(counts)
        _check_share(counts, folder, settings)
        if not counts.edits:
            raise DataError(f"{source.rows.name} gave no edit at all; the reasons are in {folder / REJECTED}")
    return counts


def _shard(
    reads: Iterator[Read],
    folder: Path,
    source: OpenedSource,
    encoder: Encoder,
    settings: Preparation,
    counts: Counts,
    pool: ThreadPoolExecutor | None,
) -> bool:
    """One more shard of the rows that come next; false where none come."""
    edits: list[Edit] = []
    refused: list[dict[str, Any]] = []
    taken, first, end = 0, counts.rows, counts.rows
    while taken < settings.shard_rows:
        part = list(islice(reads, min(settings.batch, settings.shard_rows - taken)))
        if not part:
            break
        taken, end = taken + len(part), part[-1].number + 1
        part = [read for read in part if _ours(read, source, settings)]
        opened = list((pool.map if pool else map)(partial(_open, settings=settings), part))
        edits += _encode([item for item in opened if isinstance(item, _Pictures)], encoder, settings)
        refused += [
            {"row": read.number, "id": read.id, "reason": result}
            for read, result in zip(part, opened, strict=True)
            if isinstance(result, str)
        ]
        so_far = Counts(edits=counts.edits + len(edits), rejected=counts.rejected + len(refused))
        if so_far.edits + so_far.rejected >= _SURE and so_far.share > settings.max_rejected:
            _append(folder, refused)
            _check_share(so_far, folder, settings)
    if not taken:
        return False
    numbers = {"first": first, "end": end, "reads": taken, "edits": len(edits), "rejected": len(refused)}
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in refused)
    attached = {PART: json.dumps({**numbers, "made_by": _version()}), REJECTED: lines}
    write_shard(folder, counts.shards, edits, split=source.schema.split, attached=attached)
    _append(folder, refused)
    counts.add(numbers)
    return True


def _ours(read: Read, source: OpenedSource, settings: Preparation) -> bool:
    """Whether a row is on this split's side of the holdout."""
    if not settings.holdout or read.sample is None:
        return True
    return (_lot(read.sample) < settings.holdout) == (source.schema.split == HELD)


def _lot(sample: Sample) -> float:
    """A number in [0, 1) that the source picture's file draws, so that its edits stay together."""
    try:
        data = sample.source if isinstance(sample.source, bytes) else sample.source.read_bytes()
    except OSError:
        data = sample.id.encode()  # will be refused on either side
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big") / 2**48


def _open(read: Read, settings: Preparation) -> _Pictures | str:
    """A sample's pictures, or the reason why there are none."""
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
        part = "the source image"
        if min(source.size) < _LEAST_SIDE:
            return (
                f"the source image has {source.width}x{source.height} pixels; at least {_LEAST_SIDE} a side"
            )
        size = source.size
        boxes = tuple(_in_pixels(box, size) for box in sample.boxes)
        if not boxes and sample.mask is not None:
            boxes = mask_box(sample.mask, size)
        hashes = {"source_hash": exact_hash(source), "source_look": look_hash(source)}
        if target is None:
            source = resize_to(source, target_size(*size, settings.area))
        else:
            hashes |= {"target_hash": exact_hash(target), "target_look": look_hash(target)}
            source, target = resize_pair(source, target, settings.area)
        return _Pictures(sample, source, target, size, boxes, hashes)
    except EarlError as error:
        return f"{part}: {error}"


def _check_pair(source: Image.Image, target: Image.Image) -> None:
    aspects = source.width / source.height, target.width / target.height
    if max(aspects) > _MOST_STRETCH * min(aspects):
        raise DataError(
            f"{target.width}x{target.height} pixels, the source has {source.width}x{source.height}: "
            "not the same picture"
        )


def _encode(pictures: Sequence[_Pictures], encoder: Encoder, settings: Preparation) -> Iterator[Edit]:
    """Codes of all pictures of a batch in one call; equal pictures are encoded once."""
    images: dict[bytes, Image.Image] = {}
    keys: list[tuple[bytes, bytes | None]] = []
    for item in pictures:
        pair = _key(item.source), _key(item.target) if item.target is not None else None
        images.setdefault(pair[0], item.source)
        if pair[1] is not None and item.target is not None:
            images.setdefault(pair[1], item.target)
        keys.append(pair)
    codes = dict(zip(images, encoder.encode(list(images.values()), resize=False), strict=True))
    for item, (source_key, target_key) in zip(pictures, keys, strict=True):
        sample, source_codes = item.sample, codes[source_key]
        changed = np.zeros(source_codes.shape, bool)
        if item.target is not None:
            pair_of_pixels = np.asarray(item.source), np.asarray(item.target)
            changed = changed_cells(*pair_of_pixels, tolerance=settings.tolerance)
        yield Edit(
            id=sample.id,
            source=source_key.hex(),
            source_codes=source_codes,
            target_codes=codes[target_key] if target_key is not None else np.zeros((0, 0), np.int32),
            changed=changed,
            instruction=sample.instruction,
            reasoning=scale_boxes(clean_reasoning(sample.reasoning), item.size, item.source.size),
            family=sample.family,
            group=sample.group,
            source_caption=sample.source_caption,
            target_caption=sample.target_caption,
            boxes=tuple(scale_box(box, item.size, item.source.size) for box in item.boxes),
            licence=sample.licence,
            split=sample.split,
            **item.hashes,
        )


def mask_box(mask: Any, size: tuple[int, int]) -> tuple[Box, ...]:
    """The box around the marked region of a mask image, in pixels of an image of `size`.

    Marked is what is transparent where there is transparency, else what is white in a picture of
    black and white. A mask of another kind, or that marks nothing or everything, gives no box.
    """
    import io

    try:
        opened = Image.open(io.BytesIO(mask) if isinstance(mask, bytes) else mask)
        opened.load()
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


def _key(image: Image.Image) -> bytes:
    return hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=8).digest()


def _made_with(source: OpenedSource, encoder: Encoder, settings: Preparation) -> dict[str, Any]:
    """What decides the shards' content; a folder continued with anything else is refused."""
    schema = source.schema
    return {
        "origin": schema.name,
        "fingerprint": encoder.fingerprint(),
        "codebook_size": encoder.codebook_size,
        "area": settings.area,
        "tolerance": settings.tolerance,
        "shard_rows": settings.shard_rows,
        "holdout": settings.holdout,
        "split": schema.split,
        "columns": {name: list(columns) for name, columns in schema.columns.items()},
        "draw": source.draw,
        "seed": source.seed if source.draw else None,
        "instructions": source.instructions_digest,
    }


def _continue(folder: Path) -> Counts:
    """Counts of the shards that are there; leftovers of a killed run are cleared away."""
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    counts = Counts()
    lines = []
    while (shard := shard_path(folder, counts.shards)).is_dir():
        counts.add(json.loads((shard / PART).read_text(encoding="utf-8")))
        lines.append((shard / REJECTED).read_text(encoding="utf-8"))
    fresh = folder / f".{REJECTED}"
    fresh.write_text("".join(lines), encoding="utf-8")
    os.replace(fresh, folder / REJECTED)
    return counts


def _append(folder: Path, refused: Sequence[dict[str, Any]]) -> None:
    with (folder / REJECTED).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in refused)


def _check_share(counts: Counts, folder: Path, settings: Preparation) -> None:
    if counts.share > settings.max_rejected:
        raise DataError(
            f"{counts.rejected} of {counts.edits + counts.rejected} samples were refused "
            f"({counts.share:.0%}, limit {settings.max_rejected:.0%}); the reasons are in "
            f"{folder / REJECTED}. Mend them, or raise --max-rejected and start again"
        )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process writes to a folder; the lock falls with the process that holds it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another process is preparing data in {folder}; wait for it") from error
        yield


def _pool(readers: int) -> Any:
    return ThreadPoolExecutor(readers) if readers else nullcontext()


def _version() -> str:
    from earl import __version__

    return __version__
