"""Advantages computed by hand."""

from __future__ import annotations

import pytest
import torch

from earl.errors import RewardError
from earl.training.grpo.advantages import group_advantages


def test_the_published_form():
    # mean 5, population std sqrt((9 + 1 + 1 + 9) / 4) = sqrt(5)
    found = group_advantages(torch.tensor([[2.0, 4.0, 6.0, 8.0]]))
    std = 5**0.5 + 1e-4
    assert found.tolist()[0] == pytest.approx([-3 / std, -1 / std, 1 / std, 3 / std], rel=1e-6)


def test_without_the_standard_deviation():
    found = group_advantages(torch.tensor([[2.0, 4.0, 6.0, 8.0]]), divide_by_std=False)
    assert found.tolist() == [[-3.0, -1.0, 1.0, 3.0]]


def test_equal_rewards_teach_nothing():
    assert group_advantages(torch.tensor([[7.1, 7.1, 7.1]])).abs().max() < 1e-9


def test_a_missing_verdict_leaves_the_others_as_if_it_had_never_been():
    rewards = torch.tensor([[1.0, 99.0, 3.0], [0.0, 5.0, 10.0]])
    present = torch.tensor([[True, False, True], [True, True, True]])
    found = group_advantages(rewards, present)
    assert torch.allclose(found[0, [0, 2]], group_advantages(torch.tensor([[1.0, 3.0]]))[0])
    assert found[0, 1] == 0.0
    assert torch.allclose(found[1], group_advantages(rewards[1:])[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_names_its_prompt(value):
    with pytest.raises(RewardError, match="prompt 1, rollout 0"):
        group_advantages(torch.tensor([[1.0, 2.0], [value, 2.0]]))


def test_a_group_of_one_is_refused():
    with pytest.raises(RewardError, match="prompt 0 has 1"):
        group_advantages(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]))
