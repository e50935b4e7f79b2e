"""The objective of preference tuning.

Axes: P pairs, B = 2 P sequences, T tokens; 2: the preferred edit, the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from earl.config.stages import Dpo
from earl.data.collate import Batch
from earl.training.dpo.loss import dpo_loss, margins
from earl.training.dpo.pairs import PairBatch
from earl.training.loop import Losses, sum_and_count
from earl.training.objective import PolicyObjective
from earl.training.reference import Reference


class DpoObjective(PolicyObjective):
    """The policy with the loss of its pairs, summed over them.

    Args:
        settings: of the loss.
        options, more: of `PolicyObjective`.
    """

    stage = "dpo"

    def __init__(self, *options: Any, settings: Dpo, **more: Any) -> None:
        super().__init__(*options, **more)
        self.settings = settings

    def forward(self, batch: PairBatch) -> Losses:
        """Metrics over the pairs: `loss` (nats), `margin` (see `loss.margins`), `accuracy` (share with a
        margin above 0), `preferred` and `other` (log p - log reference of the completion, nats; both fall
        where a run unlearns to edit), and over tokens of preferred edits `likelihood` (-log p, nats)."""
        assert batch.reference_P2 is not None, "the trainer scores each batch by the reference first"
        settings = self.settings
        logprobs_BT = self.score(self.policy, batch, entropy=False).logprobs_BT
        policy_P2 = completion_sums(logprobs_BT)
        losses_P = dpo_loss(policy_P2, batch.reference_P2, settings.beta)
        tokens_P = batch.loss_BT[::2].sum(dim=1).clamp_min(1)
        nats_P = -policy_P2[:, 0] / tokens_P
        losses_P = losses_P + settings.likelihood * nats_P
        margins_P = margins(policy_P2, batch.reference_P2, settings.beta)
        gains_P2 = policy_P2 - batch.reference_P2
        every_P = torch.ones_like(margins_P, dtype=torch.bool)
        metrics = {
            "loss": sum_and_count(losses_P, every_P),
            "margin": sum_and_count(margins_P, every_P),
            "accuracy": sum_and_count((margins_P > 0).float(), every_P),
            "preferred": sum_and_count(gains_P2[:, 0], every_P),
            "other": sum_and_count(gains_P2[:, 1], every_P),
            "likelihood": sum_and_count(-logprobs_BT[::2], batch.loss_BT[::2]),
        }
        return Losses(losses_P.sum(), metrics)


def completion_sums(logprobs_BT: Tensor) -> Tensor:
    """Log-probabilities of whole completions, (P, 2). Prompts and forced ids count 0."""
    return logprobs_BT.sum(dim=1).view(-1, 2)


def with_reference(
    objective: DpoObjective, reference: Reference, batches: Sequence[PairBatch], device: torch.device
) -> list[PairBatch]:
    """The batches on the device, each with the reference's log-probabilities."""
    moved: list[Batch] = [batch.to(device) for batch in batches]
    scores = reference.score(objective, moved)
    return [
        replace(batch.to(device), reference_P2=completion_sums(logprobs_BT))
        for batch, logprobs_BT in zip(batches, scores, strict=True)
    ]
