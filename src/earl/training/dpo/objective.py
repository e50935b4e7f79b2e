"""The objective of preference tuning: pairs of edits as batches, and their loss (DPO).

Axes: P pairs, B = 2 P sequences, T tokens; 2: the preferred edit, the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from earl.config.stages import Dpo
from earl.data.collate import Batch, Bundle
from earl.data.examples import edit_example
from earl.data.shards import Edit, EditShards
from earl.errors import DataError
from earl.sequence.layout import write_prompt
from earl.sequence.tokenizer import TextTokenizer
from earl.training.loop import Losses, sum_and_count
from earl.training.objective import PolicyObjective
from earl.training.reference import Reference


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Rows 2 p and 2 p + 1 are the preferred edit of pair p and the other. `active` counts pairs, which is
    what the loss is divided by."""

    reference_P2: Tensor | None = None  # log-probabilities of the completions under the reference


def pair_examples(edit: Edit, tokenizer: TextTokenizer, *, stitched: bool = False) -> Bundle:
    """The two sequences of a pair. All of the prompt but its last id is shared, whose state predicts the
    first id of either completion. The size is forced, as it is in sampling: both have the same.

    Args:
        stitched: outside the cells that an edit changes its codes are the source's own.
    """
    prompt = write_prompt(edit.source_codes, edit.instruction, tokenizer)
    other = replace(edit, target_codes=edit.other_codes, changed=edit.other_changed)
    return [
        replace(edit_example(one, tokenizer, prefill="size", stitched=stitched), prefix=len(prompt) - 1)
        for one in (edit, other)
    ]


def pair_batch(batch: Batch) -> PairBatch:
    """A batch of pairs' sequences, as `collate` makes it."""
    return PairBatch(**{**vars(batch), "active": batch.sequences // 2})


def check_pairs(sources: Mapping[str, EditShards]) -> None:
    """Raises DataError where an edit has no other image to be preferred to."""
    for name, shards in sources.items():
        if lacking := shards.without_pair():
            raise DataError(
                f"{lacking} of {len(shards)} edits of {name} ({shards.name}) are no pairs: the other image "
                "is missing. Make pairs by `earl prepare edits --pair-gap 1`, or by `earl prepare` from rows "
                "with source, instruction, preferred and other"
            )


def margins(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> Tensor:
    """Margins by which the policy prefers the right edit more than the reference does: (P,), dimensionless.

    beta ((log p - log ref) of the preferred edit - the same of the other).

    Args:
        policy_P2, reference_P2: natural log-probabilities of whole completions.
    """
    rewards_P2 = beta * (policy_P2 - reference_P2)
    return rewards_P2[:, 0] - rewards_P2[:, 1]


def dpo_loss(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> Tensor:
    """-log sigmoid(margin) of each pair, (P,), nats; log 2 where policy and reference agree.

    Source: DPO (arXiv 2305.18290), equation 7.
    """
    return -logsigmoid(margins(policy_P2, reference_P2, beta))


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
        """Metrics over the pairs: `loss` (nats), `margin` (see `margins`), `accuracy` (share with a
        margin above 0), `preferred` and `other` (log p - log reference of the completion, nats; both fall
        where a run unlearns to edit), and over tokens of preferred edits `likelihood` (-log p, nats)."""
        assert batch.reference_P2 is not None, "the trainer scores each batch by the reference first"
        beta = self.settings.beta
        logprobs_BT = self.score(self.policy, batch).logprobs_BT
        policy_P2 = completion_sums(logprobs_BT)
        losses_P = dpo_loss(policy_P2, batch.reference_P2, beta)
        margins_P = margins(policy_P2, batch.reference_P2, beta)
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
