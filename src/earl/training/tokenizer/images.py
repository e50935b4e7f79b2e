"""Images that a vision tokenizer learns from: drawn once into a file, then batches and crops.

Axes: B images, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from earl.config.stages import TokenizerImages
from earl.data.mixture import Mixture
from earl.data.tasks import Split, TaskSettings, open_tasks
from earl.errors import DataError
from earl.files import new_file

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class ImageBatch:
    """Pixels in [-1, 1], float32 (B, 3, H, W), and how much each counts, (B, H, W) or None."""

    pixels_BCHW: Tensor
    weights_BHW: Tensor | None

    @property
    def active(self) -> int:
        return len(self.pixels_BCHW)

    @property
    def sequences(self) -> int:
        return len(self.pixels_BCHW)

    def to(self, device: torch.device) -> ImageBatch:
        weights = self.weights_BHW.to(device) if self.weights_BHW is not None else None
        return replace(self, pixels_BCHW=self.pixels_BCHW.to(device), weights_BHW=weights)


def load_images(images: TokenizerImages, cache: Path, *, split: Split, count: int) -> NDArray[np.uint8]:
    """The images, uint8 (N, S, S, 3), memory-mapped; made at the first call.

    Sources and targets of a prompt source's tasks alternate, or every image of a folder is resized.

    Raises:
        DataError: the folder has no images, or the file there holds others.
        OutputError: the disk is full.
    """
    side = images.resolution
    if not cache.exists():
        paths = _image_paths(images, split)
        total = count if paths is None else len(paths)
        with new_file(cache) as fresh:
            table = np.lib.format.open_memmap(fresh, mode="w+", dtype=np.uint8, shape=(total, side, side, 3))
            drawn = _drawn(images, split, total) if paths is None else (_open(path, side) for path in paths)
            for index, pixels in enumerate(drawn):
                table[index] = pixels
            table.flush()
    table = np.load(cache, mmap_mode="r", allow_pickle=False)
    if table.shape[1:] != (side, side, 3):
        raise DataError(
            f"{cache} holds images of {table.shape[1:]}, the recipe asks for {side} px; delete it"
        )
    return table


def _drawn(images: TokenizerImages, split: Split, count: int) -> Iterator[NDArray[np.uint8]]:
    side = images.resolution
    tasks = open_tasks(
        images.origin, TaskSettings(split, side, families=images.families, options=images.options)
    )
    for seed in range(-(-count // 2)):
        task = tasks.draw(seed)
        for image in (task.source, task.target or task.source)[: count - 2 * seed]:
            yield np.asarray(_fitted(image, side), np.uint8)


def _image_paths(images: TokenizerImages, split: str) -> list[Path] | None:
    """None for a prompt source. Every twentieth file of a folder is for validation."""
    if images.folder is None:
        return None
    paths = sorted(p for p in Path(images.folder).rglob("*") if p.suffix.lower() in _SUFFIXES)
    chosen = [p for number, p in enumerate(paths) if (number % 20 == 0) == (split == "validation")]
    if not chosen:
        raise DataError(f"images.folder = {images.folder!r} has {len(paths)} images; at least 2 are needed")
    return chosen


def _open(path: Path, side: int) -> NDArray[np.uint8]:
    from earl.vision import open_image

    return np.asarray(_fitted(open_image(path), side), np.uint8)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    return image if image.size == (side, side) else ImageOps.fit(image, (side, side))


def to_pixels(images_BHWC: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(images_BHWC)).permute(0, 3, 1, 2).float() / 127.5 - 1


def edge_weights(pixels_BCHW: Tensor, strength: float) -> Tensor:
    """1 on flat ground, more near strong edges, where small solids are won or lost: (B, H, W)."""
    edges = torch.zeros_like(pixels_BCHW[:, 0])
    edges[:, 1:] += (pixels_BCHW[:, :, 1:] - pixels_BCHW[:, :, :-1]).abs().amax(1)
    edges[:, :, 1:] += (pixels_BCHW[:, :, :, 1:] - pixels_BCHW[:, :, :, :-1]).abs().amax(1)
    near = F.avg_pool2d(edges[:, None], 5, 1, 2)[:, 0]
    return 1 + strength * near.clamp(max=0.5)


class ImageStream:
    """This rank's batches of one update, resumable; crops first, whole images later.

    Every other update of the crops is aligned to the 8-pixel grid of cells, as whole images
    are; the ones between teach that content may sit anywhere.
    """

    def __init__(
        self,
        pictures: NDArray[np.uint8],
        images: TokenizerImages,
        *,
        edges: float,
        sequences: int,
        micro: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.pictures, self.images, self.edges = pictures, images, edges
        self.sequences, self.micro, self.seed = sequences, micro, seed
        self.rank, self.ranks = rank, ranks
        self.mixture = Mixture({"images": len(pictures)}, {"images": 1.0}, seed=seed)
        self.step = 0

    def __next__(self) -> list[ImageBatch]:
        self.step += 1
        drawn = self.pictures[[next(self.mixture)[1] for _ in range(self.sequences)]]
        if self.step <= self.images.crop_steps:
            drawn = self._crops(drawn)
        size = self.micro * (len(drawn) // self.sequences)
        parts = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        return [self._batch(part) for part in parts[self.rank :: self.ranks]]

    def _batch(self, part: NDArray[np.uint8]) -> ImageBatch:
        pixels = to_pixels(part)
        return ImageBatch(pixels, edge_weights(pixels, self.edges) if self.edges else None)

    def _crops(self, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = self.images.crop
        assert side is not None, "the recipe's check guarantees it"
        rng = np.random.default_rng([self.seed, 3, self.step])
        grid = 8 if self.step % 2 else 1
        places = rng.integers(
            (self.images.resolution - side) // grid + 1, size=(2, len(drawn) * self.images.crops_per_image)
        )
        many = np.repeat(np.arange(len(drawn)), self.images.crops_per_image)
        return np.stack(
            [
                drawn[index, top : top + side, left : left + side]
                for index, top, left in zip(many, *(places * grid), strict=True)
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "mixture": self.mixture.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.mixture.load_state_dict(state["mixture"])
