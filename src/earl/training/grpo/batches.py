"""Padded batches of judged groups: each prompt once, its rollouts beside each other.

Axes: P prompts, G rollouts, B rollouts of a batch, T tokens after the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from earl.config.grpo import Average
from earl.data.collate import Batch, collate
from earl.data.examples import Example
from earl.records import Completion, Verdict


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion, its kinds (`earl.sequence.kinds.Kind`, (T,)), its verdict, and the reward read from it:
    None where the verdict gives no number."""

    completion: Completion
    kinds: NDArray[np.int8]
    verdict: Verdict
    reward: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one prompt. Small: images are left behind, so that ranks can exchange groups."""

    key: str
    instruction: str
    family: str
    kind: str  # "simple" or "complex"
    prompt: tuple[int, ...]
    rollouts: tuple[Rollout, ...]

    @property
    def judged(self) -> tuple[Rollout, ...]:
        return tuple(rollout for rollout in self.rollouts if rollout.reward is not None)

    @property
    def rewards(self) -> list[float]:
        return [rollout.reward for rollout in self.rollouts if rollout.reward is not None]

    @property
    def equal(self) -> bool:
        """All rewards the same: nothing to learn from."""
        return len(set(self.rewards)) <= 1


@dataclass(frozen=True, kw_only=True)
class RolloutBatch(Batch):
    """A prefix is a prompt without its last id; `ids_BT` begins with that id, whose state predicts the
    first of the completion."""

    active_BT: Tensor  # bool: the loss is taken on it
    advantages_B: Tensor  # float32
    sampled_BT: Tensor  # float32, log-probabilities that the sampler reported
    old_BT: Tensor | None = None
    reference_BT: Tensor | None = None


def make_batch(
    groups: Sequence[Group], advantages: Sequence[Sequence[float]], *, pad: int, average: Average = "token"
) -> RolloutBatch:
    """One batch of whole groups; rollouts without a reward are left out.

    Args:
        advantages: by group, one per judged rollout.
        pad: id of padding.
        average: what `active` counts, and so the loss is divided by: tokens, or rollouts with any.
    """
    batch = collate([[_example(group.prompt, r) for r in group.judged] for group in groups], pad, share=True)
    sampled = [torch.tensor([0.0, *r.completion.logprobs]) for group in groups for r in group.judged]
    active = batch.active if average == "token" else int(batch.loss_BT.any(dim=1).sum())
    return RolloutBatch(
        **{**vars(batch), "active": active},
        active_BT=batch.loss_BT,
        advantages_B=torch.tensor([value for row in advantages for value in row], dtype=torch.float32),
        sampled_BT=pad_sequence(sampled, batch_first=True),
    )


def without_weight(batch: RolloutBatch) -> RolloutBatch:
    """The same batch with no active token: a rank without groups still takes part in the update."""
    return replace(batch, active_BT=torch.zeros_like(batch.active_BT), active=0)


def _example(prompt: Sequence[int], rollout: Rollout) -> Example:
    ids = np.array([*prompt, *rollout.completion.ids], np.int32)
    kinds = np.concatenate([np.zeros(len(prompt), np.int8), rollout.kinds])
    return Example(ids, kinds, np.zeros(len(ids), bool), prefix=len(prompt) - 1)
