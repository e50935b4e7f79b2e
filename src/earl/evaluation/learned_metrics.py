"""Distances that a trained network measures: LPIPS, CLIP image similarity, FID.

Networks and weights are those of torchmetrics, torchvision and torch-fidelity (`pip install
'earl-edit[metrics]'`) and transformers; the first three fetch their published weights when they are first
used. Where one cannot be had, a sentence says so and the evaluation goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from earl.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor, nn

Pair = tuple[Image.Image, Image.Image]
Distance = Callable[[Sequence[Pair]], "list[float | None]"]
"""None for a pair that is too small for it."""

PAIRWISE = ("lpips", "clip")
CLIP_MODEL = "openai/clip-vit-base-patch32"
LPIPS_SIDE = 31  # px, the least that AlexNet takes
FID_FEATURES = 2048


def load_distance(name: str, *, clip_model: str | None = None) -> Distance:
    """A distance of pairs (edited, target): "lpips" (0 is best) or "clip" (cosine, 1 is best).

    Raises:
        MissingExtraError: its library or weights are not here; says which.
    """
    return load_lpips() if name == "lpips" else _load_clip(clip_model or CLIP_MODEL)


def frechet_distance(pairs: Iterable[Pair], network: nn.Module | None = None) -> float:
    """FID between edited and target images, 0 is best.

    Args:
        pairs: (edited, target).
        network: uint8 images (N, 3, H, W) to features (N, F); Inception's 2,048 of torch-fidelity when None.

    Raises:
        MissingExtraError: a library or the Inception weights are not here.
        ValueError: fewer than two pairs.
    """
    with _library("fid"):
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(feature=network or FID_FEATURES)
    count = 0
    for edited, target in pairs:
        for image, real in ((edited, False), (target, True)):
            metric.update(_tensor(image), real=real)
        count += 1
    if count < 2:
        raise ValueError(f"FID needs at least 2 images with targets, there are {count}")
    return max(0.0, float(metric.compute()))  # rounding takes it a little below 0 where the sets are equal


def load_lpips(network: Literal["alex", "squeeze"] = "alex") -> Distance:
    """LPIPS of pairs, 0 is best. Raises MissingExtraError: its library or weights are not here."""
    import torch

    with _library("lpips"):
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True).eval()

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        with torch.inference_mode():
            return [
                float(metric(*(_tensor(image) / 255 for image in pair)))
                if min(pair[0].size) >= LPIPS_SIDE
                else None
                for pair in pairs
            ]

    return measure


def _load_clip(name: str) -> Distance:
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    model = pretrained(CLIPVisionModelWithProjection, name, metric="clip", option="--clip-model")
    processor = pretrained(CLIPImageProcessorPil, name, metric="clip", option="--clip-model")
    model.eval()

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        images = [image.convert("RGB") for pair in pairs for image in pair]
        with torch.inference_mode():
            inputs: Any = processor(images=images, return_tensors="pt")
            features = model(**inputs).image_embeds.reshape(len(pairs), 2, -1)
            return [*map(float, torch.cosine_similarity(features[:, 0], features[:, 1], dim=-1))]

    return measure


def pretrained(kind: Any, name: str, *, metric: str, option: str, **more: Any) -> Any:
    """A model or processor of transformers from this machine. Raises MissingExtraError: it is not here."""
    try:
        return kind.from_pretrained(name, local_files_only=True, **more)
    except (OSError, ValueError, ImportError) as error:
        raise MissingExtraError(
            f"{metric} is left out: the weights of {name} are not on this machine; fetch them with "
            f"`hf download {name}`, or name a folder with {option}"
        ) from error


@contextmanager
def _library(metric: str) -> Iterator[None]:
    """Turn an error in loading a library or its weights into a MissingExtraError."""
    try:
        yield
    except (ImportError, RuntimeError, OSError) as error:  # not installed, does not fit torch, no network
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise MissingExtraError(
            f"{metric} is left out: {first}; it needs torchmetrics, torchvision and torch-fidelity "
            "(pip install 'earl-edit[metrics]'), all for this build of torch, and their published weights"
        ) from error


def _tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W) uint8."""
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
