"""Pixels and image codes: `Emu3VQVAE` loaded, fed, and taught."""

from earl.vision.creating import create_vision_tokenizer, vision_config

__all__ = ["create_vision_tokenizer", "vision_config"]
