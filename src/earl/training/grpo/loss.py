"""The loss of GRPO and its variants, as a pure function of log-probabilities and advantages.

Axes: B rollouts, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from earl.config.grpo import LossSettings


@dataclass(frozen=True)
class LossParts:
    """`total` is a sum, because the trainer divides by the active tokens of all ranks. The others are for
    the log, without gradient."""

    total: Tensor  # scalar
    kl_BT: Tensor  # nats, 0 where not active
    clipped_BT: Tensor  # bool: the bound replaced the ratio


def grpo_loss(
    logprobs_BT: Tensor,
    advantages_B: Tensor,
    active_BT: Tensor,
    settings: LossSettings,
    *,
    old_BT: Tensor | None = None,
    reference_BT: Tensor | None = None,
    weights_BT: Tensor | None = None,
    lengths_B: Tensor | None = None,
) -> LossParts:
    """Minus the clipped, advantage-weighted likelihood ratio, plus KL to the reference.

    Of an active token: -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) + c k3, where r = exp(logp - old).
    `mirror_release` takes -logp A in place of the ratio: another value, the same gradient at r = 1.

    Args:
        logprobs_BT: of the policy, natural log; differentiable.
        advantages_B: one per rollout.
        active_BT: bool, the tokens that are trained on; what stands at others, infinite or NaN too, has no
            part in values and gradients.
        old_BT: log-probabilities before the first update on these rollouts; None where this is the
            first: then r = 1, with its gradient (EARL's setting, mu = 1).
        reference_BT: of the frozen reference; None leaves KL out of loss and log.
        weights_BT: importance weights of tokens that another engine sampled, without gradient.
        lengths_B: tokens that each rollout's sum is divided by (`settings.average` = "sequence"; then the
            trainer divides by rollouts); None leaves the sums.

    KL is the k3 estimate exp(ref - logp) - 1 - (ref - logp), never negative.
    """
    left_out_BT = ~active_BT
    logprobs_BT = logprobs_BT.masked_fill(left_out_BT, 0)
    advantages_B1 = advantages_B[:, None].to(logprobs_BT.dtype)
    before_BT = logprobs_BT.detach() if old_BT is None else old_BT.masked_fill(left_out_BT, 0)
    change_BT = logprobs_BT - before_BT
    ratio_BT = change_BT.exp()
    bounded_BT = ratio_BT.clamp(1 - settings.clip, 1 + settings.clip)
    gain_BT = torch.minimum(ratio_BT * advantages_B1, bounded_BT * advantages_B1)
    clipped_BT = (bounded_BT * advantages_B1 < ratio_BT * advantages_B1) & active_BT
    if settings.mirror_release:
        gain_BT = logprobs_BT * advantages_B1
    if weights_BT is not None:
        gain_BT = gain_BT * weights_BT
    loss_BT = -gain_BT
    kl_BT = torch.zeros_like(logprobs_BT)
    if reference_BT is not None:
        above_BT = reference_BT.masked_fill(left_out_BT, 0) - logprobs_BT
        kl_BT = above_BT.exp() - 1 - above_BT
        loss_BT = loss_BT + settings.kl_coefficient * kl_BT
    if lengths_B is not None:
        loss_BT = loss_BT / lengths_B[:, None].clamp_min(1)
    return LossParts(loss_BT.masked_fill(left_out_BT, 0).sum(), kl_BT.detach(), clipped_BT)


def importance_weights(trainer_BT: Tensor, sampler_BT: Tensor, cap: float) -> Tensor:
    """min(p of the trainer / p of the sampler, cap) of each token, without gradient.

    Truncated importance sampling, for a sampler whose arithmetic is another (vLLM): without it the
    gradient is that of a policy slightly off the one that drew the rollouts.
    """
    return (trainer_BT - sampler_BT).detach().exp().clamp_max(cap)


def agreed(trainer_BT: Tensor, sampler_BT: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Tokens whose p of the trainer / p of the sampler lies within the bounds, both included: bool (B, T).

    What lies outside says more about rounding than about the policy: where attention is sharp, rounding
    alone can decide between two cells, and an estimate that is an exponential, as k3 is, makes one
    such token outweigh all others. IcePop leaves such tokens out too (arXiv 2510.18855, there with
    0.5 and 5); its weights on the others are `importance_weights`.
    """
    ratio_BT = (trainer_BT - sampler_BT).detach().exp()
    return (ratio_BT >= bounds[0]) & (ratio_BT <= bounds[1])
