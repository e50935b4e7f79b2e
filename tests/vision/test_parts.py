"""A loaded tokenizer's layers against the stock class: names, shapes, codes, and one set of weights."""

from __future__ import annotations

import pytest
import torch
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer
from earl.vision.parts import VisionConfig, VisionParts
from earl.vision.tokenizer import VisionTokenizer

CONFIGS = [
    {},
    {"temporal_downsample_factor": 4, "num_res_blocks": 2, "attn_resolutions": (3,)},
    {"temporal_downsample_factor": 2, "embed_dim": 8, "channel_multiplier": (2, 1), "attn_resolutions": (1,)},
    {"channel_multiplier": (1,), "codebook_size": 64},
]


def test_the_defaults_are_the_stock_class_s():
    stock = Emu3VQVAEConfig()
    assert VisionConfig() == VisionConfig(**stock.to_dict())
    for name in VisionConfig.model_fields:
        value = getattr(stock, name)
        assert getattr(VisionConfig(), name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_names_and_shapes_are_the_stock_class_s(changes):
    stock = create_vision_tokenizer(1, **changes)
    parts = VisionParts(VisionConfig(**stock.config.to_dict()))
    theirs = {name: tensor.shape for name, tensor in stock.state_dict().items()}
    assert {name: tensor.shape for name, tensor in parts.state_dict().items()} == theirs
    assert parts.spatial_scale_factor == stock.spatial_scale_factor


def test_the_released_widths_too():
    with torch.device("meta"):
        stock, parts = Emu3VQVAE(Emu3VQVAEConfig()), VisionParts(VisionConfig())
    theirs = {name: tensor.shape for name, tensor in stock.state_dict().items()}
    assert {name: tensor.shape for name, tensor in parts.state_dict().items()} == theirs


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_codes_and_pixels_equal_those_computed_by_the_stock_class_s_layers(tmp_path, changes):
    direct = VisionTokenizer(create_vision_tokenizer(2, **changes), area=32 * 32)
    save_vision_tokenizer(direct, tmp_path)
    loaded = load_vision_tokenizer(tmp_path)
    assert isinstance(loaded.parts, VisionParts)
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = direct.encode_pixels(pixels)
    assert torch.equal(loaded.encode_pixels(pixels), codes)
    assert torch.equal(loaded.decode_codes(codes), direct.decode_codes(codes))


def test_the_stock_class_is_made_of_the_same_weights(tmp_path):
    save_vision_tokenizer(create_vision_tokenizer(3, temporal_downsample_factor=2), tmp_path)
    loaded = load_vision_tokenizer(tmp_path)
    before = loaded.parts.state_dict(keep_vars=True)
    model = loaded.model
    assert type(model) is Emu3VQVAE and loaded.model is model and loaded.parts is model
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is before[name]
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        stock = torch.stack(model.encode(pixels, image_sizes=[(32, 32)]).image_tokens)
    assert torch.equal(loaded.encode_pixels(pixels).view_as(stock), stock)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_channels": "wide"}, "base_channels = 'wide'"),
        ({"base_channels": True}, "base_channels = True"),
        ({"channel_multiplier": []}, r"channel_multiplier = \[\]"),
        ({"channel_multiplier": 4}, "channel_multiplier = 4"),
        ({"channel_multiplier": [1, "x"]}, r"channel_multiplier\.1 = \'x\'"),
        ({"num_res_blocks": 0}, "num_res_blocks = 0"),
        ({"temporal_downsample_factor": 3}, "a power of two"),
        ({"double_latent": "no"}, "double_latent = 'no'"),
    ],
)
def test_widths_that_are_none(changes, words):
    with pytest.raises(ValueError, match=words):
        VisionConfig(**changes)


@pytest.mark.long
def test_codes_of_the_released_widths_at_222_x_296_are_the_stock_class_s():
    torch.manual_seed(0)
    stock = Emu3VQVAE(Emu3VQVAEConfig()).eval()
    pixels = torch.rand(1, 3, 222, 296) * 2 - 1
    with torch.no_grad():
        (theirs,) = stock.encode(pixels, image_sizes=[(222, 296)]).image_tokens
    ours = VisionTokenizer(stock).encode_pixels(pixels)
    assert ours.shape == (1, 27, 37) and torch.equal(ours[0], theirs)
    assert len(ours.unique()) > 50, "a collapsed codebook would agree whatever it was given"
