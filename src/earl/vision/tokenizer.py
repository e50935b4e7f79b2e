"""`VisionTokenizer`: images to codes and back, in batches of mixed sizes.

Axes: B images, C channels, H W rows and columns (pixels in pixel tensors, cells in codes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from earl.errors import ImageError, SequenceError
from earl.records import SizeRule
from earl.vision.images import ImageSource, open_image, resize_to, target_size
from earl.vision.parts import VisionParts
from earl.vision.still import decode_still, encode_still, nearest_codes

if TYPE_CHECKING:
    from transformers import Emu3VQVAE

DEFAULT_AREA = 256 * 256
_CHUNK = 2**26  # floats in one activation at full size: pixels x base_channels


class VisionTokenizer:
    """A vision tokenizer in use. Weights are read, never changed.

    Args:
        model: the stock class or its parts; put in eval mode.
        area: px² to which `encode` resizes images.
        rule: how sides follow from the area, "snap" or "release".
        codes_of: fingerprint of the tokenizer whose codes it kept while its decoder was taught; "": its own.

    Attributes:
        parts: what computes: the stock class, or its layers alone as they are loaded.
    """

    def __init__(
        self,
        model: Emu3VQVAE | VisionParts,
        *,
        area: int = DEFAULT_AREA,
        rule: SizeRule = "snap",
        codes_of: str = "",
    ) -> None:
        self.parts = model.eval()
        self.area = area
        self.rule: SizeRule = rule
        self.codes_of = codes_of
        self.codebook_size = int(model.config.codebook_size)
        self.cell = int(model.spatial_scale_factor)  # pixels per code, each way

    @property
    def model(self) -> Emu3VQVAE:
        """The stock class, with its passes for video, on these very weights; imports transformers."""
        if isinstance(self.parts, VisionParts):
            from transformers import Emu3VQVAE, Emu3VQVAEConfig

            with torch.device("meta"):
                model = Emu3VQVAE(Emu3VQVAEConfig(**self.parts.config.model_dump()))
            # Its parameters and buffers are those of the layers that were loaded, not copies.
            model.load_state_dict(self.parts.state_dict(keep_vars=True), strict=True, assign=True)
            self.parts = model.eval()
        return self.parts

    @property
    def device(self) -> torch.device:
        return self.parts.device

    def encode(self, images: Sequence[ImageSource], resize: bool = True) -> list[NDArray[np.int32]]:
        """Image codes.

        Args:
            images: PIL images, paths or bytes, of any sizes.
            resize: bring each to `self.area` (`target_size`); else they are taken as they are.

        Returns:
            For each image int32 (rows, columns) in [0, codebook_size): `height // 8` rows, `width // 8`
            columns. Of sides that are not multiples of 8 the encoder drops the rest, as the release's.

        Raises:
            ImageError: an image that cannot be read, is past 5:1, or has a side below 8 pixels.
        """
        opened = [open_image(image) for image in images]
        if resize:
            opened = [resize_to(p, target_size(*p.size, self.area, self.rule)) for p in opened]
        for image in opened:
            if min(image.size) < self.cell:
                raise ImageError(
                    f"an image of {image.width}x{image.height} pixels is smaller than one cell of "
                    f"{self.cell}x{self.cell}; give a larger one, or leave resize on"
                )
        codes: dict[int, NDArray[np.int32]] = {}
        for places in self._chunks([(p.height, p.width) for p in opened], pixels_per_item=1):
            codes_BHW = self.encode_pixels(to_pixels([opened[i] for i in places]))
            codes.update(zip(places, codes_BHW.cpu().numpy().astype(np.int32), strict=True))
        return [codes[i] for i in range(len(opened))]

    def decode(self, codes: Sequence[NDArray[np.integer]], *, bf16: bool = False) -> list[Image.Image]:
        """Images from image codes.

        Args:
            codes: integer arrays (rows, columns) in [0, codebook_size), of any sizes.
            bf16: compute under bfloat16 autocast: faster, images off by a few of 255 levels.

        Returns:
            PIL images in mode RGB, 8 pixels per code each way.

        Raises:
            SequenceError: not a grid of codes of this tokenizer.
        """
        grids = [self._check(np.asarray(grid), place) for place, grid in enumerate(codes)]
        decoded: dict[int, Image.Image] = {}
        for places in self._chunks([grid.shape for grid in grids], pixels_per_item=self.cell**2):
            pixels = self.decode_codes(torch.from_numpy(np.stack([grids[i] for i in places])), bf16=bf16)
            decoded.update(zip(places, to_images(pixels), strict=True))
        return [decoded[i] for i in range(len(grids))]

    @torch.inference_mode()
    def encode_pixels(self, pixels_BCHW: Tensor) -> Tensor:
        """int64 codes (B, H // 8, W // 8) of pixels (B, 3, H, W) in [-1, 1]; all in one batch."""
        pixels_BCHW = pixels_BCHW.to(device=self.device, dtype=self.parts.dtype)
        latents_BDHW = encode_still(self.parts, pixels_BCHW)
        # the nearest code is looked up in float32, whatever the model computes in
        return nearest_codes(self.parts.quantize.embedding.weight.float(), latents_BDHW.float())

    @torch.inference_mode()
    def decode_codes(self, codes_BHW: Tensor, *, bf16: bool = False) -> Tensor:
        """float32 pixels (B, 3, 8 H, 8 W), about [-1, 1], of codes (B, H, W); `bf16` as in `decode`."""
        vectors_BHWD = self.parts.quantize.embedding(codes_BHW.to(self.device).long())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return decode_still(self.parts, vectors_BHWD.permute(0, 3, 1, 2).contiguous()).float()

    def fingerprint(self) -> str:
        """16 hex digits of the weights and widths: equal where images get the same codes."""
        return self.codes_of or self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        config = self.parts.config
        widths = [config.base_channels, list(config.channel_multiplier), config.num_res_blocks]
        widths += [list(config.attn_resolutions), config.temporal_downsample_factor, config.codebook_size]
        digest = hashlib.sha256(json.dumps(widths).encode())
        for name, tensor in sorted(self.parts.state_dict().items()):
            if tensor.is_floating_point():
                digest.update(name.encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def _chunks(self, sizes: Sequence[tuple[int, ...]], *, pixels_per_item: int) -> Iterator[list[int]]:
        """Places of equal size together, in batches that fit in memory."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, size in enumerate(sizes):
            groups.setdefault(tuple(size), []).append(place)
        for (height, width), places in groups.items():
            floats = height * width * pixels_per_item * int(self.parts.config.base_channels)
            step = max(1, _CHUNK // floats)
            for first in range(0, len(places), step):
                yield places[first : first + step]

    def _check(self, grid: NDArray[np.integer], place: int) -> NDArray[np.int64]:
        if grid.ndim != 2 or 0 in grid.shape or grid.dtype.kind not in "iu":
            raise SequenceError(
                f"codes of image {place} are {grid.dtype} of shape {grid.shape}; "
                "expected integers (rows, columns)"
            )
        low, high = int(grid.min()), int(grid.max())
        if low < 0 or high >= self.codebook_size:
            raise SequenceError(
                f"codes of image {place} reach from {low} to {high}, this tokenizer has 0 to "
                f"{self.codebook_size - 1}; they are another tokenizer's"
            )
        return grid.astype(np.int64)


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """float32 (B, 3, H, W) in [-1, 1] of RGB images of one size: (value / 255 - 0.5) / 0.5."""
    values_BHWC = np.stack([np.asarray(image) for image in images])
    pixels = torch.from_numpy(values_BHWC).permute(0, 3, 1, 2).to(torch.float32)
    return ((pixels / 255 - 0.5) / 0.5).contiguous()


def to_images(pixels_BCHW: Tensor) -> list[Image.Image]:
    """RGB images of pixels (B, 3, H, W), clamped to [-1, 1] and rounded to 8 bits."""
    values = ((pixels_BCHW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(array) for array in values.permute(0, 2, 3, 1).cpu().numpy()]
