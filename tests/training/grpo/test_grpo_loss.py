"""Losses computed by hand, each setting by itself."""

from __future__ import annotations

import math

import pytest
import torch

from earl.config.grpo import LossSettings
from earl.training.grpo.loss import agreed, grpo_loss, importance_weights

ACTIVE = torch.tensor([[True, True], [True, False]])
ADVANTAGES = torch.tensor([2.0, -1.0])


def logs(*rows: tuple[float, ...]) -> torch.Tensor:
    """Natural logs of probabilities, with a gradient."""
    return torch.tensor(rows).log().requires_grad_()


def test_on_policy_the_ratio_is_one_and_the_gradient_is_the_advantage():
    logprobs = logs((0.5, 0.25), (0.1, 0.7))
    parts = grpo_loss(logprobs, ADVANTAGES, ACTIVE, LossSettings())
    assert parts.total.item() == pytest.approx(-(2.0 + 2.0 - 1.0))
    parts.total.backward()
    assert torch.allclose(logprobs.grad, torch.tensor([[-2.0, -2.0], [1.0, 0.0]]))
    assert not parts.clipped_BT.any()


def test_the_bounds_are_apart_for_good_and_bad_rollouts():
    # ratios: 1.5 and 0.5 of a good rollout, 0.5 of a bad one
    logprobs, old = logs((0.6, 0.2), (0.2, 0.7)), logs((0.4, 0.4), (0.4, 0.7)).detach()
    settings = LossSettings(clip=0.28)
    parts = grpo_loss(logprobs, ADVANTAGES, ACTIVE, settings, old_BT=old)
    # min(1.5 * 2, 1.28 * 2) = 2.56; min(0.5 * 2, 0.72 * 2) = 1.0; min(-0.5, -0.72) = -0.72
    assert parts.total.item() == pytest.approx(-(2.56 + 1.0 - 0.72))
    assert parts.clipped_BT.tolist() == [[True, False], [True, False]]
    parts.total.backward()
    assert torch.allclose(logprobs.grad, torch.tensor([[0.0, -1.0], [0.0, 0.0]]))


def test_kl_is_the_k3_estimate():
    logprobs, reference = logs((0.5, 0.25), (0.1, 0.7)), logs((0.25, 0.25), (0.2, 0.7)).detach()
    settings = LossSettings(kl_coefficient=0.1)
    parts = grpo_loss(logprobs, torch.zeros(2), ACTIVE, settings, reference_BT=reference)
    expected = [0.5 - 1 + math.log(2), 0.0, 2 - 1 - math.log(2)]
    assert parts.kl_BT.flatten().tolist() == pytest.approx([*expected, 0.0], abs=1e-6)
    assert parts.total.item() == pytest.approx(0.1 * sum(expected))


def test_the_releases_value_has_the_same_gradient():
    first, second = logs((0.5, 0.25), (0.1, 0.7)), logs((0.5, 0.25), (0.1, 0.7))
    reference = logs((0.4, 0.3), (0.3, 0.1)).detach()
    ours = grpo_loss(first, ADVANTAGES, ACTIVE, LossSettings(), reference_BT=reference)
    mirrored = LossSettings(mirror_release=True)
    theirs = grpo_loss(second, ADVANTAGES, ACTIVE, mirrored, reference_BT=reference)
    ours.total.backward()
    theirs.total.backward()
    assert torch.allclose(first.grad, second.grad)
    difference = -2 * (math.log(0.5) + math.log(0.25)) + math.log(0.1) - (-3.0)
    assert (theirs.total - ours.total).item() == pytest.approx(difference, rel=1e-5)


def test_importance_weights_are_capped_and_scale_the_gain_alone():
    trainer, sampler = logs((0.5, 0.3), (0.2, 0.7)), logs((0.1, 0.6), (0.2, 0.7)).detach()
    weights = importance_weights(trainer, sampler, cap=2.0)
    assert weights.flatten().tolist() == pytest.approx([2.0, 0.5, 1.0, 1.0])
    assert not weights.requires_grad
    parts = grpo_loss(trainer, ADVANTAGES, ACTIVE, LossSettings(), weights_BT=weights)
    assert parts.total.item() == pytest.approx(-(2 * 2.0 + 2 * 0.5 - 1.0))


def test_tokens_on_which_sampler_and_trainer_disagree_lie_outside_the_range():
    trainer, sampler = logs((0.5, 0.3), (0.1, 1e-6)), logs((0.1, 0.6), (0.51, 0.99)).detach()
    assert agreed(trainer, sampler, (0.2, 5.0)).tolist() == [[True, True], [False, False]]
    assert agreed(trainer, sampler, (0.45, 4.9)).tolist() == [[False, True], [False, False]]


def test_a_mean_of_each_rollout_s_mean_is_the_papers_equation_1():
    logprobs = logs((0.5, 0.25), (0.1, 0.7))
    settings = LossSettings(average="sequence", kl_coefficient=0.0)
    parts = grpo_loss(logprobs, ADVANTAGES, ACTIVE, settings, lengths_B=ACTIVE.sum(1))
    # rollout 1: the mean over its 2 tokens of -2; rollout 2: over its one token of 1. A trainer divides by 2.
    assert parts.total.item() == pytest.approx(-2.0 + 1.0)
    parts.total.backward()
    assert torch.allclose(logprobs.grad, torch.tensor([[-1.0, -1.0], [1.0, 0.0]]))


def test_what_stands_at_tokens_that_are_left_out_does_not_matter():
    settings = LossSettings(kl_coefficient=0.1)
    found = []
    for odd in (0.7, 0.0, math.nan):
        logprobs, old = logs((0.5, 0.25), (0.1, odd)), logs((0.4, 0.25), (0.1, odd)).detach()
        reference = logs((0.25, 0.25), (0.2, odd)).detach()
        weights = torch.tensor([[1.0, 1.0], [1.0, odd]])
        parts = grpo_loss(
            logprobs, ADVANTAGES, ACTIVE, settings, old_BT=old, reference_BT=reference, weights_BT=weights
        )
        parts.total.backward()
        found.append((parts.total.item(), logprobs.grad.tolist(), parts.kl_BT.tolist()))
    assert found[0] == found[1] == found[2]
