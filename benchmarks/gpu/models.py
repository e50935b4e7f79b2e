"""Models with random weights, made where they will run: nothing is loaded, 8.5 B are never on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Emu3ForCausalLM
from transformers.models.emu3.modeling_emu3 import Emu3RotaryEmbedding

from earl.policy.configs import make_config
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.sequence.vocabulary import Vocabulary
from earl.vision.creating import create_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer

TEXTS = ["make the big cube red", "add a green ball left of the cone", "remove the blue ring", "32*32"]


@dataclass(frozen=True)
class Scale:
    """What is measured at a size: the policy, the width of the vision tokenizer, the image, counts."""

    policy: str
    channels: int
    codebook: int
    side: int  # px
    edits: int
    prompts: int
    group: int
    batches: tuple[int, ...]
    micro: int  # sequences of a forward pass of SFT
    sequences: int  # of one SFT step
    images: int


SCALES = {
    "8b": Scale("8b", 256, 32_768, 256, 50, 16, 8, (1, 8, 32, 64, 128), 4, 128, 16),
    "small": Scale("small", 32, 512, 64, 8, 4, 4, (1, 8, 32), 4, 16, 8),
    "tiny": Scale("tiny", 32, 64, 32, 2, 2, 2, (1, 2), 2, 4, 2),
}


@dataclass
class Models:
    """A policy and tokenizers that fit together."""

    policy: Any
    tokenizer: TextTokenizer
    vision: VisionTokenizer
    scale: Scale
    device: torch.device

    @property
    def grid(self) -> tuple[int, int]:
        return self.scale.side // 8, self.scale.side // 8

    def images(self, count: int) -> list[Image.Image]:
        """Smooth noise, the same each time."""
        rng = np.random.default_rng(0)
        side = self.scale.side
        coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        return [Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC) for each in coarse]


def make_models(size: str, device: str) -> Models:
    """Random weights from seed 0; bfloat16 on a GPU, float32 on a CPU."""
    scale, place = SCALES[size], torch.device(device)
    text = train_text_tokenizer(TEXTS, size=320, codebook_size=scale.codebook)
    if size == "8b":
        text = TextTokenizer(text.tokenizer, Vocabulary.released())
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    config = make_config(scale.policy, text.vocabulary)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        policy = Emu3ForCausalLM(config)
    policy.to(dtype=dtype)  # type: ignore[call-arg]
    policy.to_empty(device=place)
    generator = torch.Generator(device=place).manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.fill_(1.0)
    policy.tie_weights()
    policy.model.rotary_emb = Emu3RotaryEmbedding(config=config).to(place)
    vision = create_vision_tokenizer(
        0,
        base_channels=scale.channels,
        channel_multiplier=(1, 2, 2, 4),
        num_res_blocks=2 if size == "8b" else 1,
        attn_resolutions=(3,),
        temporal_downsample_factor=4,
        codebook_size=scale.codebook,
    )
    return Models(policy.eval(), text, VisionTokenizer(vision.to(place), area=scale.side**2), scale, place)
