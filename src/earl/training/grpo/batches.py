"""Judged groups to padded batches: each prompt once, its rollouts beside each other.

Axes: P prompts, G rollouts, B rollouts of a batch, T tokens after the prefix, L tokens of a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from earl.records import Completion, Verdict
from earl.sequence import Kind


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion, its kinds (`earl.sequence.Kind`, (T,)), its verdict, and the reward read from it:
    None where the verdict gives no number."""

    completion: Completion
    kinds: np.ndarray
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


@dataclass(frozen=True)
class RolloutBatch:
    """Padded on the right. A prefix is a prompt without its last id; `ids_BT` begins with that id,
    whose state predicts the first of the completion."""

    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool
    kinds_BT: Tensor  # int64, FORCED on the prompt and on padding
    active_BT: Tensor  # bool: trained on at this step
    advantages_B: Tensor  # float32
    sampled_BT: Tensor  # float32, log-probabilities that the sampler reported
    prefix_PL: Tensor  # int64
    prefix_mask_PL: Tensor  # bool
    owner_B: Tensor  # int64, row of prefix_PL
    active: int  # what the loss is summed over: active tokens, or rollouts (sequence ratios)
    old_BT: Tensor | None = None
    reference_BT: Tensor | None = None

    @property
    def sequences(self) -> int:
        return len(self.ids_BT)

    def to(self, device: torch.device) -> RolloutBatch:
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask and kinds of prompt and completion in one row, (B, L + T), the prompt padded on
        the left: for scoring without sharing."""
        prefix_BL, present_BL = self.prefix_PL[self.owner_B], self.prefix_mask_PL[self.owner_B]
        shifts_B = (~present_BL).sum(dim=1)
        at_BL = torch.arange(prefix_BL.shape[1], device=prefix_BL.device) - shifts_B[:, None]
        moved_BL = prefix_BL.gather(1, at_BL.clamp_min(0))
        ids = torch.cat([moved_BL, self.ids_BT], dim=1)
        mask = torch.cat([at_BL >= 0, self.mask_BT], dim=1)
        kinds = torch.cat([torch.zeros_like(prefix_BL), self.kinds_BT], dim=1)
        return ids, mask, kinds


def make_batch(
    groups: Sequence[Group],
    advantages: Sequence[Sequence[float]],
    *,
    pad: int,
    trained: Literal["all", "text", "visual"] = "all",
    per_rollout: bool = False,
) -> RolloutBatch:
    """One batch of whole groups; rollouts without a reward are left out.

    Args:
        advantages: by group, one per judged rollout.
        trained: tokens that the loss is taken on.
        per_rollout: the loss is summed over rollouts (sequence ratios), not over tokens.
    """
    kept = [(index, rollout) for index, group in enumerate(groups) for rollout in group.judged]
    last = [groups[index].prompt[-1] for index, _ in kept]
    ids = _pad([[first, *r.completion.ids] for first, (_, r) in zip(last, kept, strict=True)], pad)
    kinds = _pad([[0, *r.kinds.tolist()] for _, r in kept], int(Kind.FORCED))
    sampled = _pad([[0.0, *r.completion.logprobs] for _, r in kept], 0.0).float()
    wanted = {"all": kinds != Kind.FORCED, "text": kinds == Kind.TEXT, "visual": kinds == Kind.VISUAL}[
        trained
    ]
    return RolloutBatch(
        ids_BT=ids,
        mask_BT=_mask([len(r.completion.ids) + 1 for _, r in kept], ids.shape[1]),
        kinds_BT=kinds,
        active_BT=wanted,
        advantages_B=torch.tensor([value for row in advantages for value in row], dtype=torch.float32),
        sampled_BT=sampled,
        prefix_PL=_pad([group.prompt[:-1] for group in groups], pad),
        prefix_mask_PL=_mask(
            [len(group.prompt) - 1 for group in groups], max(len(g.prompt) - 1 for g in groups)
        ),
        owner_B=torch.tensor([index for index, _ in kept]),
        active=int(wanted.any(dim=1).sum()) if per_rollout else int(wanted.sum()),
    )


def without_weight(batch: RolloutBatch) -> RolloutBatch:
    """The same batch with no active token: a rank without groups still takes part in the update."""
    return replace(batch, active_BT=torch.zeros_like(batch.active_BT), active=0)


def _pad(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    table = np.full((len(rows), max(map(len, rows))), value)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
