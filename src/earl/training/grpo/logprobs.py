"""The objective of GRPO.

Axes: B rollouts, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch

from earl.config.grpo import LossSettings
from earl.sequence.kinds import Kind
from earl.training.grpo.batches import RolloutBatch
from earl.training.grpo.loss import agreed, grpo_loss, importance_weights
from earl.training.loop import Losses, sum_and_count
from earl.training.objective import PolicyObjective


class GrpoObjective(PolicyObjective):
    """The policy with GRPO's loss, summed over the active tokens, or over the rollouts' means.

    Args:
        settings: of the loss; with an `importance_range`, tokens outside (`loss.agreed`) have no part in
            the loss or in `kl`, but count in what it is divided by.
        options, more: of `PolicyObjective`.
    """

    stage = "grpo"

    def __init__(self, *options: Any, settings: LossSettings, **more: Any) -> None:
        super().__init__(*options, **more)
        self.settings = settings

    def forward(self, batch: RolloutBatch) -> Losses:
        """Metrics over active tokens: `loss`, `kl` (k3, nats), `clipped` (share), `sampler_gap` (nats,
        |trainer - sampler|), `sampler_ratio` (trainer / sampler probability), with an `importance_range`
        `disagreed` (share left out); `entropy_visual` and `entropy_text` in nats over all scored tokens of
        the kind."""
        logprobs_BT, entropy_BT = self.score(self.policy, batch, entropy=True)
        active_BT = batch.active_BT
        weights_BT = None
        before_BT = logprobs_BT.detach() if batch.old_BT is None else batch.old_BT
        kept_BT = active_BT
        if self.settings.importance_range is not None:
            kept_BT = active_BT & agreed(before_BT, batch.sampled_BT, self.settings.importance_range)
        if self.settings.importance_cap is not None:
            weights_BT = importance_weights(before_BT, batch.sampled_BT, self.settings.importance_cap)
        parts = grpo_loss(
            logprobs_BT,
            batch.advantages_B,
            kept_BT,
            self.settings,
            old_BT=batch.old_BT,
            reference_BT=batch.reference_BT,
            weights_BT=weights_BT,
            lengths_B=active_BT.sum(1) if self.settings.average == "sequence" else None,
        )
        gap_BT = before_BT - batch.sampled_BT
        metrics = {
            "loss": torch.stack(
                [parts.total.detach().double(), parts.total.new_tensor(batch.active).double()]
            ),
            "kl": sum_and_count(parts.kl_BT, kept_BT),
            "clipped": sum_and_count(parts.clipped_BT, kept_BT),
            "sampler_gap": sum_and_count(gap_BT.abs(), active_BT),
            "sampler_ratio": sum_and_count(gap_BT.exp(), active_BT),
            "entropy_visual": sum_and_count(entropy_BT, batch.kinds_BT == Kind.VISUAL),
            "entropy_text": sum_and_count(entropy_BT, batch.kinds_BT == Kind.TEXT),
        }
        if self.settings.importance_range is not None:
            metrics["disagreed"] = sum_and_count((~kept_BT).float(), active_BT)
        return Losses(parts.total, metrics)
