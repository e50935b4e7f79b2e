"""`transformers.Emu3VQVAE` around the layers of a tokenizer that was loaded."""

from __future__ import annotations

import torch
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from earl.vision.parts import VisionParts


def to_stock_class(parts: VisionParts) -> Emu3VQVAE:
    """The stock class in eval mode; its parameters and buffers are those of `parts`, not copies."""
    with torch.device("meta"):
        model = Emu3VQVAE(Emu3VQVAEConfig(**parts.config.model_dump()))
    model.load_state_dict(parts.state_dict(keep_vars=True), strict=True, assign=True)
    model.eval()
    return model
