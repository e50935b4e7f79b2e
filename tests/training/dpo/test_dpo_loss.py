"""The loss of a pair against values computed by hand."""

import math

import pytest
import torch

from earl.training.dpo.objective import dpo_loss, margins

REFERENCE_P2 = torch.tensor([[-10.0, -12.0], [-5.0, -5.0], [-3.0, -1.0]])


def test_loss_at_the_start_is_log_two() -> None:
    assert dpo_loss(REFERENCE_P2, REFERENCE_P2, 0.1).tolist() == pytest.approx([math.log(2)] * 3)


def test_loss_and_margin_by_hand() -> None:
    """beta 0.5; gains (+2, -2), (-1, -3), (0, +4): margins 0.5 x (4, 2, -4)."""
    policy_P2 = REFERENCE_P2 + torch.tensor([[2.0, -2.0], [-1.0, -3.0], [0.0, 4.0]])
    assert margins(policy_P2, REFERENCE_P2, 0.5).tolist() == pytest.approx([2.0, 1.0, -2.0])
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    assert dpo_loss(policy_P2, REFERENCE_P2, 0.5).tolist() == pytest.approx(by_hand, rel=1e-6)


def test_gradient_raises_the_preferred_and_lowers_the_other() -> None:
    """d loss / d log p = -beta sigmoid(-margin) of the preferred edit, the opposite of the other."""
    policy_P2 = (REFERENCE_P2 + torch.tensor([[2.0, -2.0], [0.0, 0.0], [0.0, 4.0]])).requires_grad_()
    dpo_loss(policy_P2, REFERENCE_P2, 0.5).sum().backward()
    pulls = [0.5 / (1 + math.exp(margin)) for margin in (2.0, 0.0, -2.0)]
    assert policy_P2.grad[:, 0].tolist() == pytest.approx([-pull for pull in pulls])
    assert policy_P2.grad[:, 1].tolist() == pytest.approx(pulls)
