"""A ComfyUI node that edits images by a running `earl serve`: copy this folder into `custom_nodes`.

It needs nothing beside what ComfyUI has (torch, numpy, Pillow). Images go to the server as PNG, edited ones
come back with their seeds. A mask is optional: where it is 1 the edit may change the image.
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request

import numpy as np
import torch
from PIL import Image


class EarlEdit:
    """One instruction for each image of a batch; `variations` edits of each."""

    CATEGORY = "image/edit"
    FUNCTION = "edit"
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("images", "seeds")
    DESCRIPTION = "Edits images as an instruction says, by a server that `earl serve` runs."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple]]:
        return {
            "required": {
                "image": ("IMAGE",),
                "instruction": ("STRING", {"multiline": True, "default": "make it night"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53, "control_after_generate": True}),
                "variations": ("INT", {"default": 1, "min": 1, "max": 10}),
                "temperature": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 10.0, "step": 0.01}),
                "keep_outside": ("BOOLEAN", {"default": False, "tooltip": "the source's pixels elsewhere"}),
                "url": ("STRING", {"default": "http://127.0.0.1:8000/v1"}),
            },
            "optional": {"mask": ("MASK",)},
        }

    def edit(
        self,
        image: torch.Tensor,
        instruction: str,
        seed: int,
        variations: int,
        temperature: float,
        keep_outside: bool,
        url: str,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, str]:
        """Edited images (batch x variations, height, width, 3) in [0, 1], and their seeds as text.

        Args:
            image: float (batch, height, width, 3) in [0, 1].
            mask: float (1 or batch, height, width); 1 where the edit may change the image.
        """
        made, seeds = [], []
        for number, pixels in enumerate(image):
            body = {
                "image": data_url(pixels),
                "prompt": instruction,
                "n": variations,
                "seed": seed + number * variations,
                "temperature": temperature,
                "keep_outside": keep_outside,
            }
            if mask is not None:
                body["mask"] = data_url(with_mask(pixels, mask[number % len(mask)]))
            for item in post(f"{url.rstrip('/')}/images/edits", body)["data"]:
                made.append(Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))).convert("RGB"))
                seeds.append(str(item["seed"]))
        made = [
            one if one.size == made[0].size else one.resize(made[0].size) for one in made
        ]  # a batch has one size
        array = np.stack([np.asarray(one, np.float32) / 255 for one in made])
        return torch.from_numpy(array), " ".join(seeds)


def data_url(pixels: torch.Tensor) -> str:
    """Pixels (height, width, 3 or 4) in [0, 1] as a PNG data URL."""
    buffer = io.BytesIO()
    levels = (pixels.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(levels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def with_mask(pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """RGBA, transparent where the mask is 1: there the server may change the image."""
    height, width = pixels.shape[:2]
    if mask.shape != (height, width):
        mask = torch.nn.functional.interpolate(mask[None, None].float(), (height, width))[0, 0]
    return torch.cat([pixels[..., :3].cpu(), 1 - mask[..., None].float().cpu()], dim=-1)


def post(url: str, body: dict[str, object]) -> dict:
    """The server's answer. The key, where it asks for one, is read from EARL_API_KEY.

    Raises:
        RuntimeError: it cannot be reached, or says why it refuses.
    """
    headers = {"content-type": "application/json"}
    if key := os.environ.get("EARL_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        try:
            said = json.loads(error.read())["error"]["message"]
        except (ValueError, KeyError, TypeError):
            said = error.reason
        raise RuntimeError(f"earl serve refused ({error.code}): {said}") from error
    except urllib.error.URLError as error:
        raise RuntimeError(f"no server at {url} ({error.reason}); start it with `earl serve`") from error


NODE_CLASS_MAPPINGS = {"EarlEdit": EarlEdit}
NODE_DISPLAY_NAME_MAPPINGS = {"EarlEdit": "Edit by instruction (EARL)"}
