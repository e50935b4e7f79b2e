"""Training images of a vision tokenizer: drawn once into a file, then batches and crops.

Axes: B images, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from earl.config.sections import BatchSizes
from earl.config.stages import TokenizerImages
from earl.data.mixture import Mixture
from earl.data.tasks import Split, TaskSettings, open_tasks
from earl.errors import DataError, ImageError
from earl.files import new_file, read_object, write_json
from earl.progress import Progress
from earl.vision.images import image_files, open_image

_FAILED_SHARE = 0.05  # of a folder's images, as `earl prepare` allows
_NAMED = 20  # of those that cannot be opened


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

    Sources and targets of a prompt source's tasks alternate, or every image of a folder is resized. Where the
    cache is of other settings, as the JSON beside it says, it is made anew.

    Raises:
        DataError: the folder has no images, or the file there holds others.
        OutputError: the disk is full.
    """
    side, note = images.resolution, cache.with_name(f"{cache.name}.json")
    made_of = images.model_dump(mode="json", include={"origin", "folder", "families", "options"})
    made_of |= {"split": split, "count": count} if images.folder is None else {"split": split}
    if not cache.exists() or (note.is_file() and read_object(note) != made_of):
        note.unlink(missing_ok=True)  # it never tells of images that are not there
        if images.folder is None:
            _write(cache, _drawn(images, split, count), side)
        else:
            _write(cache, _opened(_image_paths(images.folder, split), side), side)
        write_json(note, made_of)
    try:
        table: NDArray[np.uint8] = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{cache} cannot be read: {error}; delete it") from error
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


def _write(cache: Path, images: Iterable[NDArray[np.uint8]], side: int) -> None:
    """Write the images one by one, as one array; its length goes into the header at the end."""

    def header(count: int) -> dict[str, Any]:
        return {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}

    with new_file(cache) as fresh, fresh.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header(0))
        count = 0
        for pixels in images:
            file.write(pixels.tobytes())
            count += 1
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header(count))  # numpy leaves room for longer numbers


def _image_paths(folder: str, split: Split) -> list[Path]:
    """Image files. Every twentieth file is for validation."""
    paths = image_files(Path(folder).expanduser())
    chosen = [path for number, path in enumerate(paths) if (number % 20 == 0) == (split == "validation")]
    if not chosen:
        raise DataError(f"images.folder = {folder!r} has {len(paths)} images; at least 2 are needed")
    return chosen


def _opened(paths: Sequence[Path], side: int) -> Iterator[NDArray[np.uint8]]:
    """The images that can be opened; those that cannot are named in the end.

    Raises:
        DataError: too many cannot, or none can.
    """
    failed: list[ImageError] = []
    for path in paths:
        try:
            image = open_image(path)
        except ImageError as error:
            failed.append(error)
            if len(failed) > max(1, _FAILED_SHARE * len(paths)) or len(failed) == len(paths):
                raise DataError(
                    f"{len(failed)} of {len(paths)} images cannot be opened, the last: {error}"
                ) from error
            continue
        yield np.asarray(_fitted(image, side), np.uint8)
    for problem in failed[:_NAMED]:
        Progress().line(f"left out: {problem}")
    if failed:
        Progress().line(f"left out {len(failed)} of {len(paths)} images")


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

    Args:
        table: the images, uint8 (N, S, S, 3).
        edges: how much more pixels near strong edges count (`losses.edges`).
        rank: (this rank, ranks).

    Raises:
        ConfigError: `global_size` does not divide into `micro_size` on every rank.

    Every other update of the crops is aligned to the 8-pixel grid of cells, as whole images
    are; the ones between teach that content may sit anywhere.
    """

    def __init__(
        self,
        table: NDArray[np.uint8],
        settings: TokenizerImages,
        batch: BatchSizes,
        *,
        edges: float,
        seed: int,
        rank: tuple[int, int] = (0, 1),
    ) -> None:
        self.rank, self.ranks = rank
        batch.check_ranks(self.ranks)
        self.table, self.settings, self.batch = table, settings, batch
        self.edges, self.seed = edges, seed
        self.mixture = Mixture({"images": len(table)}, {"images": 1.0}, seed=seed)
        self.step = 0

    def __next__(self) -> list[ImageBatch]:
        self.step += 1
        count = self.batch.global_size
        drawn = self.table[[next(self.mixture)[1] for _ in range(count)]]
        if self.step <= self.settings.crop_steps:
            drawn = self._crops(drawn)
        size = self.batch.micro_size * (len(drawn) // count)
        parts = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        return [self._batch(part) for part in parts[self.rank :: self.ranks]]

    def _batch(self, part: NDArray[np.uint8]) -> ImageBatch:
        pixels = to_pixels(part)
        return ImageBatch(pixels, edge_weights(pixels, self.edges) if self.edges else None)

    def _crops(self, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = self.settings.crop
        assert side is not None, "the recipe's check guarantees it"
        rng = np.random.default_rng([self.seed, 3, self.step])
        grid = 8 if self.step % 2 else 1
        each = self.settings.crops_per_image
        last = (self.settings.resolution - side) // grid
        places = rng.integers(last + 1, size=(2, len(drawn) * each))
        many = np.repeat(np.arange(len(drawn)), each)
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
