"""The learner: its losses by hand, what it leaves in the stock class, and that it learns."""

from __future__ import annotations

import pytest
import torch

from earl.config.stages import TokenizerLosses
from earl.errors import ConfigError
from earl.training.tokenizer.learning import TokenizerLearner, color_loss, pixel_losses, psnr
from earl.vision.creating import create_vision_tokenizer

TINY = {"channel_multiplier": (1, 1, 1), "codebook_size": 32}


def pictures(step: int, count: int = 6, side: int = 16) -> torch.Tensor:
    """Two flat colours meeting at an edge."""
    generator = torch.Generator().manual_seed(step)
    colours = torch.rand(count, 2, 3, 1, 1, generator=generator) * 2 - 1
    edge = torch.randint(2, side - 2, (count, 1, 1, 1), generator=generator)
    left = (torch.arange(side).view(1, 1, 1, side) < edge).float()
    return (colours[:, 0] * left + colours[:, 1] * (1 - left)).expand(-1, -1, side, -1).contiguous()


def trainable(learner):
    return [p for p in learner.parameters() if p.requires_grad]


def train(learner, steps, *, first=0, optimiser=None):
    optimiser = optimiser or torch.optim.AdamW(trainable(learner), lr=2e-3)
    learner.train()
    passes = []
    for step in range(first, first + steps):
        passed = learner(pictures(step))
        optimiser.zero_grad()
        passed.loss.backward()
        optimiser.step()
        passes.append(passed)
    return passes, optimiser


def test_pixel_losses_by_hand():
    error = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]])
    l1, l2, gradient = pixel_losses(error)
    assert l1 == 1.0 and l2 == 1.5
    # down |-1|, |3| -> mean 2; across |-2|, |2| -> mean 2
    assert gradient == 2.0


def test_weights_count_where_they_are_and_only_by_ratio():
    error = torch.zeros(1, 3, 4, 4)
    error[..., 0, 0] = 1.0
    weights = torch.zeros(1, 4, 4)
    weights[0, 0, 0] = 5.0
    l1, l2, gradient = pixel_losses(error, weights)
    assert l1 == 1.0 and l2 == 1.0 and gradient > pixel_losses(error)[2]
    weights[0, 0, 0], weights[0, 3, 3] = 0.0, 5.0
    assert all(loss == 0 for loss in pixel_losses(error, weights))
    ones = pixel_losses(error, torch.full((1, 4, 4), 7.0))
    for ours, plain in zip(ones, pixel_losses(error), strict=True):
        torch.testing.assert_close(ours, plain)


def test_psnr_by_hand():
    pixels = torch.zeros(1, 3, 2, 2)
    assert abs(float(psnr(pixels + 0.2, pixels)) - 20) < 1e-4  # 10 log10(4 / 0.04)
    assert float(psnr(pixels + 5, pixels + 1)) == float(psnr(pixels + 1, pixels + 1))  # clamped


def test_straight_through_and_commitment_gradients():
    """What reaches the encoder: the decoder's gradient unchanged, plus the pull to the code."""
    model = create_vision_tokenizer(1, **TINY)
    learner = TokenizerLearner(model, TokenizerLosses(l1=0, gradient=0, commitment=0.5))
    learner.use_loaded_codebook()
    latents = torch.randn(1, 4, 2, 2, requires_grad=True)
    learner._encode = lambda model, pixels: latents
    seen = []

    def decode(model, quant):
        quant.retain_grad()
        seen.append(quant)
        return quant[:, :3] * 3.0

    learner._decode = decode
    learner.eval()
    passed = learner(torch.zeros(1, 3, 2, 2))
    passed.loss.backward()
    codes = model.quantize.embedding.weight[passed.codes_BHW].permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], codes)
    pull = 0.5 * 2 * (latents - codes) / latents.numel()
    torch.testing.assert_close(latents.grad, seen[0].grad + pull)


def test_it_learns_and_leaves_equal_codes_in_the_stock_class():
    learner = TokenizerLearner(create_vision_tokenizer(0, **TINY), TokenizerLosses(warmup_steps=10))
    passes, _ = train(learner, 50)
    assert [p.quantised for p in passes] == [False] * 10 + [True] * 40
    start = sum(float(p.parts["l1"]) for p in passes[:5]) / 5
    end = sum(float(p.parts["l1"]) for p in passes[-5:]) / 5
    assert end < 0.5 * start
    assert passes[-1].parts["psnr"] > passes[0].parts["psnr"] + 3
    assert (learner.codebook.use_K > 0.03 * learner.codebook.use_K.mean()).sum() > 20
    learner.eval()
    pixels = pictures(999)
    with torch.no_grad():
        passed = learner(pixels)
        stock = learner.model.encode(pixels, image_sizes=[(16, 16)] * 6).image_tokens
        torch.testing.assert_close(passed.codes_BHW, torch.cat(stock).view_as(passed.codes_BHW))
        frame = learner.model.decode(passed.codes_BHW)
    torch.testing.assert_close(passed.recon_BCHW, frame, atol=1e-5, rtol=0)


def test_evaluation_changes_nothing():
    learner = TokenizerLearner(create_vision_tokenizer(0, **TINY))
    train(learner, 3)
    before = {k: v.clone() for k, v in learner.state_dict().items()}
    learner.eval()
    learner(pictures(0))
    assert all(torch.equal(before[k], v) for k, v in learner.state_dict().items())


def test_every_weight_is_taught_but_the_codebook():
    learner = TokenizerLearner(create_vision_tokenizer(0, **TINY)).train()
    learner(pictures(0)).loss.backward()
    without = {n for n, p in learner.model.named_parameters() if p.grad is None}
    assert without == {"quantize.embedding.weight"}
    assert all(p is not learner.model.quantize.embedding.weight for p in trainable(learner))


def test_resumed_equals_uninterrupted():
    settings = TokenizerLosses(warmup_steps=2)

    def learner(seed):
        made = TokenizerLearner(create_vision_tokenizer(seed, **TINY), settings)
        made.codebook.reseed_every, made.codebook.reseed_below = 2, 0.5
        return made

    whole = learner(0)
    _, optimiser = train(whole, 4)
    saved = {k: v.clone() for k, v in whole.state_dict().items()}
    saved_optimiser = {"state": optimiser.state_dict()["state"], "param_groups": optimiser.param_groups}
    resumed = learner(5)
    resumed.load_state_dict(saved)
    other = torch.optim.AdamW(trainable(resumed), lr=2e-3)
    state = optimiser.state_dict()
    other.load_state_dict(
        {
            **state,
            "state": {k: {n: t.clone() for n, t in s.items()} for k, s in saved_optimiser["state"].items()},
        }
    )
    train(whole, 4, first=4, optimiser=optimiser)
    train(resumed, 4, first=4, optimiser=other)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, atol=0, rtol=0, msg=name)


def test_autocast_keeps_latents_and_losses_in_float32():
    learner = TokenizerLearner(create_vision_tokenizer(0, **TINY)).train()
    with torch.autocast("cpu", torch.bfloat16):
        passed = learner(pictures(0))
    assert passed.recon_BCHW.dtype == torch.float32 and passed.loss.dtype == torch.float32
    assert learner.codebook.codes_KD.dtype == torch.float32


def test_temporal_factor_four_learns_too():
    config = {"channel_multiplier": (1, 1), "codebook_size": 16, "temporal_downsample_factor": 4}
    passes, _ = train(TokenizerLearner(create_vision_tokenizer(0, **config)), 12)
    assert passes[-1].loss < passes[0].loss


def test_widths_that_cannot_be():
    for changes, words in [
        ({"base_channel": 32}, "base_channel"),
        ({"base_channels": 48}, "multiple of 32"),
        ({"temporal_downsample_factor": 3}, "power of two"),
    ]:
        with pytest.raises(ConfigError, match=words):
            create_vision_tokenizer(0, **changes)


def test_a_seed_is_a_model():
    one, same, other = (create_vision_tokenizer(seed, **TINY).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["encoder.conv_in.weight"], other["encoder.conv_in.weight"])


def test_color_loss_by_hand():
    pixels = torch.zeros(1, 3, 4, 4)
    pixels[:, 0] = 0.5  # vivid: 1 + 3 * 0.5 = 2.5
    error = torch.zeros(1, 3, 4, 4)
    error[:, 1] = 0.3  # means 0, .3, 0; tinted -.1, .2, -.1
    expected = 2.5 * (0.3 + 0.5 * 0.4) / 3
    assert color_loss(error, pixels).item() == pytest.approx(expected, rel=1e-5)
    assert color_loss(torch.zeros_like(error), pixels).item() == 0
