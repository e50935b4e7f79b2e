"""PIE-Bench's metrics: what an edit preserves outside its region, and agreement with the caption.

Outside the mask: PSNR, SSIM and mean squared error of edited against source image, the region black in both.
Structure distance: mean squared difference of the two images' self-similarity, cosines between the keys of
the last attention layer of DINO's ViT-B/8 at every pair of its tokens. CLIP scores: 100 times the cosine of
image and caption (ViT-L/14), of the whole image and of the region alone. As in PnP Inversion (arXiv
2310.01506), whose code puts pixels of 0 to 255, not 0 to 1, into the normalisation before DINO; so do we.
Axis letters: H W rows and columns, C channels, N tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.config import EvaluationSettings
from earl.errors import MissingExtraError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.learned_metrics import load_lpips, pretrained
from earl.evaluation.metrics import pixels, psnr, ssim, unmeasured

if TYPE_CHECKING:
    from torch import Tensor

DINO_MODEL, CLIP_MODEL = "facebook/dino-vitb8", "openai/clip-vit-large-patch14"
DINO_SIDE, DINO_LONGEST = 224, 480  # px
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True, slots=True)
class Region:
    """One edit with the mask of its region (L, white inside) and the caption of the edited image."""

    source: Image.Image
    edited: Image.Image
    mask: Image.Image
    caption: str


def measure_regions(folder: EvaluationFolder, settings: EvaluationSettings) -> dict[str, str]:
    """Measure the edits that have a mask and an image and are not measured yet.

    Returns {metric: sentence} of those that were asked for and could not be measured.
    """
    edits = [edit for edit in folder.edits if edit.edited and edit.mask]
    if not edits:
        return {"pie": "pie is of benchmarks with masks and captions"} if "pie" in settings.metrics else {}
    problems: dict[str, str] = {}
    pie = lpips = None
    try:
        pie = load_pie(settings.dino_model, settings.clip_model) if "pie" in settings.metrics else None
    except MissingExtraError as error:
        problems["pie"] = str(error)
    try:
        lpips = load_lpips("squeeze") if "lpips" in settings.metrics else None
    except MissingExtraError as error:
        problems["lpips"] = str(error)
    wanted = [*(("structure",) if pie else ()), *(("lpips_kept",) if lpips else ())]
    for edit, known in unmeasured(folder, edits, wanted):
        images = [folder.image(name) for name in (edit.source, edit.edited, edit.mask)]
        source, edited, mask = images
        assert source is not None and edited is not None and mask is not None
        region = Region(source, edited, mask, edit.caption)
        row = {**known, **kept(region), **(pie(region) if pie else {})}
        if lpips:
            row["lpips_kept"] = lpips([outside(region)])[0]
        folder.metrics.append({edit.key: row})
    return problems


def kept(region: Region) -> dict[str, float | None]:
    """PSNR, SSIM and mean squared error outside the region; None without a rest, or under 11 px a side."""
    mask_HW1 = _mask(region)
    if mask_HW1.all() or min(region.source.size) < 11:
        return dict.fromkeys(("psnr_kept", "ssim_kept", "mse_kept"))
    source_HWC, edited_HWC = (pixels(image) * ~mask_HW1 for image in (region.source, region.edited))
    return {
        "psnr_kept": round(psnr(edited_HWC, source_HWC), 5),
        "ssim_kept": round(ssim(edited_HWC, source_HWC), 5),
        "mse_kept": round(float(np.square(edited_HWC - source_HWC).mean()), 7),
    }


def outside(region: Region) -> tuple[Image.Image, Image.Image]:
    """Edited and source image with the region black."""
    keep = Image.fromarray(~_mask(region)[..., 0])
    black = Image.new("RGB", region.source.size)
    first, second = (Image.composite(image, black, keep) for image in (region.edited, region.source))
    return first, second


def load_pie(dino_model: str | None, clip_model: str | None) -> Callable[[Region], dict[str, float | None]]:
    """Structure distance and the two CLIP scores of an edit.

    Raises MissingExtraError: the weights are not here; says which.
    """
    from transformers import CLIPModel, CLIPProcessor, ViTModel

    vit = dino_model or DINO_MODEL
    dino = pretrained(ViTModel, vit, metric="pie", option="--dino-model", add_pooling_layer=False).eval()
    clip, processor = (
        pretrained(kind, clip_model or CLIP_MODEL, metric="pie", option="--clip-model")
        for kind in (CLIPModel, CLIPProcessor)
    )
    clip.eval()

    def measure(region: Region) -> dict[str, float | None]:
        mask_HW1 = _mask(region)
        inside = Image.fromarray(np.asarray(region.edited.convert("RGB")) * mask_HW1)
        whole, alone = clip_scores(clip, processor, [region.edited, inside], region.caption)
        return {
            "structure": round(structure_distance(dino, region.edited, region.source), 7),
            "clip_text": round(whole, 4),
            "clip_text_edited": round(alone, 4) if mask_HW1.any() else None,
        }

    return measure


def structure_distance(model: Any, first: Image.Image, second: Image.Image) -> float:
    """Mean squared difference of self-similarities, 0 for equal images.

    Args:
        model: a `ViTModel`.
    """
    first_NN, second_NN = (self_similarity(keys_of(model, image)) for image in (first, second))
    return float((first_NN - second_NN).square().mean())


def keys_of(model: Any, image: Image.Image) -> Tensor:
    """(N, D): the keys of the last layer at the class token and each patch, all heads together."""
    import torch
    from torch.nn.functional import interpolate

    shorter, longer = sorted(image.size)
    scale = min(DINO_SIDE / shorter, DINO_LONGEST / longer)
    width, height = (int(side * scale) for side in image.size)
    x_1CHW = torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1)[None]
    x_1CHW = interpolate(x_1CHW, (height, width), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    kept: list[Tensor] = []
    hook = model.layers[-1].attention.k_proj.register_forward_hook(lambda *call: kept.append(call[2][0]))
    try:
        with torch.inference_mode():
            model((x_1CHW - mean) / std, interpolate_pos_encoding=True)
    finally:
        hook.remove()
    return kept[0]


def self_similarity(keys_ND: Tensor) -> Tensor:
    """(N, N): cosine of each two tokens' keys."""
    norms_N1 = keys_ND.norm(dim=1, keepdim=True)
    norms_NN: Tensor = (norms_N1 @ norms_N1.T).clamp(min=1e-8)
    return keys_ND @ keys_ND.T / norms_NN


def clip_scores(model: Any, processor: Any, images: Sequence[Image.Image], caption: str) -> list[float]:
    """100 times the cosine of each image with the caption, at least 0."""
    import torch

    with torch.inference_mode():
        inputs = processor(
            text=[caption],
            images=[image.convert("RGB") for image in images],
            return_tensors="pt",
            padding=True,
            truncation=True,
        )
        out = model(**inputs)
        cosines = torch.cosine_similarity(out.image_embeds, out.text_embeds, dim=-1)
    return [max(0.0, 100 * float(cosine)) for cosine in cosines]


def _mask(region: Region) -> NDArray[np.bool_]:
    """(H, W, 1) bool."""
    mask = region.mask.convert("L").resize(region.source.size, Image.Resampling.NEAREST)
    return np.asarray(mask)[..., None] > 127
