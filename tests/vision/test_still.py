"""The fast still-image passes against the stock class, on random small weights."""

from __future__ import annotations

import pytest
import torch
from transformers import Emu3VQVAE

from earl.vision.creating import create_vision_tokenizer
from earl.vision.still import decode_still, encode_still, nearest_codes

CONFIGS = [
    {"temporal_downsample_factor": 1},
    {"temporal_downsample_factor": 1, "embed_dim": 8, "channel_multiplier": (1, 2), "attn_resolutions": (1,)},
    {"temporal_downsample_factor": 2, "num_res_blocks": 2, "channel_multiplier": (1, 1, 2)},
    {"temporal_downsample_factor": 4, "channel_multiplier": (1, 2, 2), "attn_resolutions": (2,)},
]


def random_model(seed: int, **config) -> Emu3VQVAE:
    """Weights, statistics and codes all random: no term may hide behind a zero or a one."""
    model = create_vision_tokenizer(seed, **config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_both_ways_equal_the_stock_class(config, seed):
    model = random_model(seed, **config)
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    with torch.no_grad():
        stock = torch.stack(model.encode(pixels, image_sizes=[(32, 48)] * 2).image_tokens)
        ours = nearest_codes(model.quantize.embedding.weight, encode_still(model, pixels))
        assert torch.equal(ours, stock.view_as(ours))
        stock_frame = model.decode(ours)
        quant = model.quantize.embedding(ours).permute(0, 3, 1, 2)
        scale = float(stock_frame.abs().max().clamp(min=1))  # random weights make pixels of several units
        torch.testing.assert_close(decode_still(model, quant) / scale, stock_frame / scale, atol=1e-5, rtol=0)


def test_decode_in_double_precision_is_the_same_function():
    model = random_model(5, temporal_downsample_factor=4, channel_multiplier=(1, 2, 2)).double()
    codes = torch.randint(0, 512, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        quant = model.quantize.embedding(codes).permute(0, 3, 1, 2)
        torch.testing.assert_close(decode_still(model, quant), model.decode(codes), atol=1e-11, rtol=1e-11)


def test_latents_equal_the_stock_class_tightly():
    """Codes alone could hide small differences."""
    model = random_model(3, temporal_downsample_factor=1)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        hidden = model.encoder(pixels[:, None]).permute(0, 2, 1, 3, 4)
        stock = model.quant_conv(hidden).squeeze(2)
        torch.testing.assert_close(encode_still(model, pixels), stock, atol=1e-5, rtol=1e-5)


def test_the_lookup_in_chunks_is_the_stock_quantiser_s():
    """Coarse values, so that exact ties and near ties abound."""
    model = create_vision_tokenizer(0, channel_multiplier=(1,), codebook_size=5000)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.quantize.embedding.weight.copy_(torch.randint(-9, 9, (5000, 4), generator=generator) / 7)
        latents = torch.randint(-40, 40, (3, 4, 16, 16), generator=generator) / 31
        stock = model.quantize(latents.unsqueeze(1)).squeeze(1)
    ours = nearest_codes(model.quantize.embedding.weight, latents)
    assert torch.equal(ours, stock) and len(ours.unique()) > 100


@pytest.mark.parametrize("factor", [1, 4])
def test_gradients_equal_the_stock_class(factor):
    """Through the stock 3-D modules and through the 2-D passes: every parameter's gradient."""
    model = random_model(4, temporal_downsample_factor=factor, channel_multiplier=(1, 2))
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    target = torch.rand(1, 3, 16, 16)

    def gradients(latents, recon):
        model.zero_grad()
        (recon - target).square().mean().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    frames = pixels[:, None].repeat(1, factor, 1, 1, 1)
    z = model.quant_conv(model.encoder(frames).permute(0, 2, 1, 3, 4))
    post = model.post_quant_conv(z)
    stock_recon = model.decoder(post.permute(0, 2, 1, 3, 4), z.permute(0, 2, 1, 3, 4))[:1]
    expected = gradients(z, stock_recon)
    latents = encode_still(model, pixels)
    ours = gradients(latents, decode_still(model, latents))
    assert ours.keys() == expected.keys() and len(ours) > 50
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
