"""Pixels and image codes: opening and resizing images, loading and running `Emu3VQVAE`.

Names are loaded on first use: opening an image does not import torch. What knows how codes are
written as tokens is `earl.sequence`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.vision.creating import create_vision_tokenizer, vision_config
    from earl.vision.images import ImageSource, open_image, resize_pair, resize_to, target_size
    from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer
    from earl.vision.tokenizer import VisionTokenizer, to_images, to_pixels

_HOMES = {
    "ImageSource": "images",
    "VisionTokenizer": "tokenizer",
    "create_vision_tokenizer": "creating",
    "load_vision_tokenizer": "loading",
    "open_image": "images",
    "resize_pair": "images",
    "resize_to": "images",
    "save_vision_tokenizer": "loading",
    "target_size": "images",
    "to_images": "tokenizer",
    "to_pixels": "tokenizer",
    "vision_config": "creating",
}

__all__ = [
    "ImageSource",
    "VisionTokenizer",
    "create_vision_tokenizer",
    "load_vision_tokenizer",
    "open_image",
    "resize_pair",
    "resize_to",
    "save_vision_tokenizer",
    "target_size",
    "to_images",
    "to_pixels",
    "vision_config",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"earl.vision.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'earl.vision' has no attribute {name!r}")
