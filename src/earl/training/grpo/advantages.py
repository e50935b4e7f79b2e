"""Group-relative advantages.

Axes: P prompts, G rollouts of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from earl.errors import RewardError


def group_advantages(
    rewards_PG: Tensor, present_PG: Tensor | None = None, *, divide_by_std: bool = True, eps: float = 1e-4
) -> Tensor:
    """Score each rollout against the others of its group.

    A group of equal rewards gives zeros: no gradient from the reward, KL still acts.

    Args:
        rewards_PG: (P, G), VIEScore points 0-10.
        present_PG: bool (P, G), false where a rollout has no verdict; at least 2 true in each row.
        divide_by_std: false leaves r - mean as it is, so that groups of little spread do not weigh
            as much as the others (Dr. GRPO, arXiv 2503.20783).
        eps: reward points, added to the population standard deviation.

    Returns:
        float32 (P, G), dimensionless (reward points without the division); each row's mean over
        what is present is 0, and 0 where absent.

    Raises:
        RewardError: a reward is not finite (names the prompt), or a group is smaller than 2.

    Source: GRPO (arXiv 2402.03300), outcome supervision; constants as in EARL (arXiv 2508.01119).
    """
    present_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if present_PG is None else present_PG
    counts_P1 = present_PG.sum(dim=1, keepdim=True)
    if bool((counts_P1 < 2).any()):
        prompt = int((counts_P1[:, 0] < 2).nonzero()[0])
        raise RewardError(
            f"prompt {prompt} has {int(counts_P1[prompt])} judged rollouts; an advantage needs at least 2"
        )
    unfit_PG = present_PG & ~rewards_PG.isfinite()
    if bool(unfit_PG.any()):
        prompt, rollout = unfit_PG.nonzero()[0].tolist()
        raise RewardError(
            f"the reward of prompt {prompt}, rollout {rollout} is {rewards_PG[prompt, rollout]}"
        )
    rewards = rewards_PG.double().masked_fill(~present_PG, 0.0)
    centred = (rewards - rewards.sum(dim=1, keepdim=True) / counts_P1).masked_fill(~present_PG, 0.0)
    if divide_by_std:
        centred /= (centred.square().sum(dim=1, keepdim=True) / counts_P1).sqrt() + eps
    return centred.float()
