"""Overlap of two sets of images: equal pixels, or close perceptual hashes.

The exact fingerprint is of the upright RGB pixels, so another file format without loss keeps it.
The look is a 64-bit perceptual hash (the signs of the low frequencies of a 32x32 grey copy about
their median): a few bits differ after scaling, compression or small changes of colour.

Axes: T training images, E evaluation images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.shards import MANIFEST, load_shards
from earl.errors import DataError, ImageError
from earl.vision.images import image_files, open_image

_SIDE, _LOW = 32, 8  # px of the grey copy; frequencies kept each way
_FLAT = 2.0  # levels: an image with less contrast than this looks like any other flat one
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """An image of a set: the id of its sample, which side it is, and its hashes (`look` "" if flat)."""

    id: str
    side: Literal["source", "target", "image"]
    exact: str
    look: str


@dataclass(frozen=True, slots=True)
class Match:
    """An image of the evaluation set that is in the training set; `distance` in bits of 64."""

    train: Fingerprint
    evaluation: Fingerprint
    kind: Literal["exact", "near"]
    distance: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        both = {"evaluation": self.evaluation, "train": self.train}
        sides = {name: {"id": of.id, "side": of.side} for name, of in both.items()}
        return {**sides, "kind": self.kind, "distance": self.distance}

    def __str__(self) -> str:
        how = "same pixels" if self.kind == "exact" else f"{self.distance} bits apart"
        evaluation, train = self.evaluation, self.train
        return f"{evaluation.id} ({evaluation.side}) is {train.id} ({train.side}), {how}"


def overlap_lines(matches: Sequence[Match], train: int, evaluation: int, bits: int) -> list[str]:
    """The matches as lines for people, at most 20 of them; `train` and `evaluation` count the images."""
    exact = sum(match.kind == "exact" for match in matches)
    lines = [
        f"{len(matches)} of {evaluation} evaluation images are among {train} training images: "
        f"{exact} with the same pixels, {len(matches) - exact} that look alike (within {bits} bits)"
    ]
    lines += [f"  {match}" for match in matches[:20]]
    if len(matches) > 20:
        lines.append(f"  and {len(matches) - 20} more; -o FILE writes all of them")
    return lines


def exact_hash(image: Image.Image) -> str:
    """32 hex digits of the size and pixels of an RGB image."""
    digest = hashlib.blake2b(f"{image.width}x{image.height}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def look_hash(image: Image.Image) -> str:
    """16 hex digits, or "" of an image too flat to look like anything."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float64)
    if values.std() < _FLAT:
        return ""
    waves = _waves()
    low = (waves @ values @ waves.T).ravel()[1:]  # without the mean
    bits = np.concatenate([[False], low > np.median(low)])
    return np.packbits(bits).tobytes().hex()


def fingerprints(path: str | Path) -> list[Fingerprint]:
    """The images of prepared shards, or of a folder of image files.

    Raises:
        DataError: neither, or shards without fingerprints (made before there were any, or of the world).
    """
    folder = Path(path).expanduser()
    if (folder / MANIFEST).is_file():
        return list(_of_shards(folder))
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds neither prepared shards nor image files; prepare the data first")
    found = []
    for file in files:
        try:
            image = open_image(file)
        except ImageError:
            continue  # nothing else can equal an image that cannot be read
        found.append(Fingerprint(str(file.relative_to(folder)), "image", exact_hash(image), look_hash(image)))
    return found


def find_overlap(
    train: Sequence[Fingerprint], evaluation: Sequence[Fingerprint], *, bits: int = 4
) -> list[Match]:
    """Evaluation images that are in the training images, each with its nearest.

    Args:
        bits: differing bits, 0-64, up to which two images look the same.
    """
    by_pixels: dict[str, Fingerprint] = {}
    for image in train:
        by_pixels.setdefault(image.exact, image)
    seen = [image for image in train if image.look]
    looks_T = np.array([int(image.look, 16) for image in seen], np.uint64)
    matches = []
    for image in evaluation:
        if same := by_pixels.get(image.exact):
            matches.append(Match(same, image, "exact", 0))
        elif image.look and len(seen):
            apart_T = np.bitwise_count(looks_T ^ np.uint64(int(image.look, 16)))
            nearest = int(apart_T.argmin())
            if apart_T[nearest] <= bits:
                matches.append(Match(seen[nearest], image, "near", int(apart_T[nearest])))
    return matches


def _of_shards(folder: Path) -> Iterator[Fingerprint]:
    dataset = load_shards(folder).dataset
    wanted = ["id", "source_hash", "source_look", "target_hash", "target_look"]
    if missing := set(wanted) - set(dataset.column_names):
        raise DataError(
            f"{folder} has no {sorted(missing)[0]}: it was not prepared from images; prepare the source again"
        )
    for batch in dataset.select_columns(wanted).with_format(None).iter(batch_size=_CHUNK):
        for place, name in enumerate(batch["id"]):
            for side in ("source", "target"):
                if exact := batch[f"{side}_hash"][place]:
                    yield Fingerprint(name, side, exact, batch[f"{side}_look"][place])


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.float64]:
    """The first cosines of the DCT-II, (8, 32)."""
    places = (np.arange(_SIDE) + 0.5) / _SIDE
    return np.cos(np.pi * np.arange(_LOW)[:, None] * places[None, :])
