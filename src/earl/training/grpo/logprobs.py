"""The objective of GRPO, and the reference policy.

Axes: B rollouts, T tokens.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from earl.config.grpo import LossSettings
from earl.policy import policy_of
from earl.sequence import Kind
from earl.training.grpo.batches import RolloutBatch
from earl.training.grpo.loss import agreed, grpo_loss, importance_weights
from earl.training.loop import Losses, sum_and_count
from earl.training.objective import PolicyObjective


class GrpoObjective(PolicyObjective):
    """The policy with GRPO's loss, summed over the active tokens.

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
        logprobs_BT, entropy_BT = self.score(self.policy, batch)
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


class Reference:
    """The frozen start of RL. With LoRA it is the policy with its adapter switched off, else a copy.

    Args:
        policy: as it starts, before any update.
        rest_on_cpu: the copy waits in CPU memory and is moved for each use.
        dtype: of the copy; None keeps the policy's. Where weights are unsharded in bfloat16 the copy
            has that too: both then compute alike, and KL begins at 0.
    """

    def __init__(self, policy: Any, *, rest_on_cpu: bool = False, dtype: torch.dtype | None = None) -> None:
        self._adapted = policy if hasattr(policy, "peft_config") else None
        self._copy: Any = None
        if self._adapted is None:
            self._copy = copy.deepcopy(policy).requires_grad_(False).eval()
        self._home = torch.device("cpu") if rest_on_cpu else policy_of(policy).lm_head.weight.device
        if self._copy is not None:
            self._copy.to(self._home, dtype)

    @property
    def is_copy(self) -> bool:
        """It has weights of its own; the policy's are not needed to score by it."""
        return self._copy is not None

    @torch.no_grad()
    def score(self, objective: GrpoObjective, batches: list[RolloutBatch]) -> list[Tensor]:
        """Log-probabilities of each batch, (B, T)."""
        device = policy_of(objective.policy).lm_head.weight.device
        model = self._adapted if self._adapted is not None else self._copy.to(device)
        with self._adapted.disable_adapter() if self._adapted is not None else nullcontext():
            found = [objective.score(model, batch)[0] for batch in batches]
        if self._copy is not None:
            self._copy.to(self._home)
        return found
