"""Distances that a trained network measures: LPIPS, CLIP image similarity, FID.

Their libraries are optional and their weights are never downloaded from here: what is not at hand
is one sentence that says what is missing, and the evaluation goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earl.errors import MissingExtraError

Pair = tuple[Image.Image, Image.Image]
Distance = Callable[[Sequence[Pair]], "list[float | None]"]
"""None for a pair that is too small for it."""

PAIRWISE = ("lpips", "clip")
CLIP_MODEL = "openai/clip-vit-base-patch32"
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
FID_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
WHERE = {
    LPIPS_WEIGHTS: f"torchvision's weights of AlexNet, {LPIPS_WEIGHTS},",
    FID_WEIGHTS: f"the Inception of torch-fidelity's release v0.2.0 on GitHub, {FID_WEIGHTS},",
}
FID_LEAST = 64  # pictures: as many as the features it takes, for a covariance of full rank


def load_distance(name: str, *, clip_model: str | None = None) -> Distance:
    """A distance of pairs (edited, target): "lpips" (0 is best) or "clip" (cosine, 1 is best).

    Raises:
        MissingExtraError: its library or weights are not here; says which.
    """
    return {"lpips": _load_lpips, "clip": lambda: _load_clip(clip_model or CLIP_MODEL)}[name]()


def frechet_distance(pairs: Iterable[Pair]) -> float:
    """FID between edited and target images, on 64 Inception features (small sets), 0 is best.

    Raises:
        MissingExtraError: torchmetrics or the Inception weights are not here.
        ValueError: fewer than 64 pairs.
    """
    _need("fid", "torchmetrics")
    place = _weights("fid", FID_WEIGHTS)
    import torch

    from earl.evaluation.networks import InceptionStem

    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except (ImportError, RuntimeError, OSError) as error:  # it imports torchvision where it finds it
        first = str(error).strip().split("\n")[0]
        raise MissingExtraError(
            f"fid is left out: torchmetrics cannot be imported ({first}); where that is about torchvision, "
            "take torchvision and torch-fidelity away: fid does not need them"
        ) from error

    metric = FrechetInceptionDistance(feature=_made("fid", place, InceptionStem))
    count = 0
    for edited, target in pairs:
        for image, real in ((edited, False), (target, True)):
            metric.update(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None], real=real)
        count += 1
    if count < FID_LEAST:
        raise ValueError(f"FID needs at least {FID_LEAST} images with targets, there are {count}")
    return max(0.0, float(metric.compute()))  # rounding takes it a little below 0 where the sets are equal


def _load_lpips() -> Distance:
    _need("lpips", "torchmetrics")
    place = _weights("lpips", LPIPS_WEIGHTS)
    import torch

    from earl.evaluation.networks import LEAST_SIDE, Lpips, read_tensors

    last = _last_layers()
    metric = _made("lpips", place, lambda weights: Lpips(weights, read_tensors(last)))

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        with torch.inference_mode():
            return [
                float(metric(_tensor(edited), _tensor(target))) if min(edited.size) >= LEAST_SIDE else None
                for edited, target in pairs
            ]

    def _tensor(image: Image.Image) -> Any:
        array = np.array(image.convert("RGB"), np.float32) / 255
        return torch.from_numpy(array).permute(2, 0, 1)[None]

    return measure


def _load_clip(name: str) -> Distance:
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    try:
        model = CLIPVisionModelWithProjection.from_pretrained(name, local_files_only=True).eval()
        processor = CLIPImageProcessorPil.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:
        raise MissingExtraError(
            f"clip is left out: the weights of {name} are not on this machine; fetch them with "
            f"`hf download {name}`, or name a folder with --clip-model"
        ) from error

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        images = [image.convert("RGB") for pair in pairs for image in pair]
        with torch.inference_mode():
            inputs = processor(images=images, return_tensors="pt")
            features = model(**inputs).image_embeds.reshape(len(pairs), 2, -1)
            return torch.cosine_similarity(features[:, 0], features[:, 1], dim=-1).tolist()

    return measure


def _need(metric: str, *libraries: str) -> None:
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{metric} is left out: {' and '.join(missing)} is missing; pip install 'earl-edit[metrics]'"
        )


def _weights(metric: str, name: str) -> Path:
    """Where published weights are, beside those that torch.hub keeps."""
    import torch

    place = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not place.is_file():
        raise MissingExtraError(
            f"{metric} is left out: its weights are not on this machine; fetch {WHERE[name]} and put it "
            f"at {place}"
        )
    return place


def _last_layers() -> Path:
    """LPIPS' own layers, which torchmetrics ships as a file."""
    found = find_spec("torchmetrics")  # not imported: that costs a second and may fail beside torchvision
    assert found and found.origin, "looked for before"
    place = Path(found.origin).parent / "functional/image/lpips_models/alex.pth"
    if not place.is_file():
        raise MissingExtraError(
            "lpips is left out: the torchmetrics that is installed does not ship LPIPS' last layers; "
            "pip install 'torchmetrics>=1.6,<2'"
        )
    return place


def _made(metric: str, place: Path, make: Callable[[Mapping[str, Any]], Any]) -> Any:
    from earl.evaluation.networks import read_tensors

    try:
        return make(read_tensors(place))
    except (KeyError, RuntimeError) as error:
        why = (
            f"it has no {error}"
            if isinstance(error, KeyError)
            else str(error).strip().split("\n")[-1].strip()
        )
        raise MissingExtraError(
            f"{metric} is left out: {place} is not {WHERE[place.name].rstrip(',')} ({why}); fetch it again"
        ) from error
    except MissingExtraError as error:
        raise MissingExtraError(f"{metric} is left out: {error}") from error
