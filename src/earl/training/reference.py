"""The reference policy: the start of a run, frozen.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from earl.data.collate import Batch
from earl.policy.likelihood import policy_of
from earl.training.objective import PolicyObjective


class Reference:
    """The frozen start of a run. With LoRA it is the policy with its adapter switched off, else a copy.

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
    def score(self, objective: PolicyObjective, batches: Sequence[Batch]) -> list[Tensor]:
        """Log-probabilities of each batch, (B, T)."""
        device = policy_of(objective.policy).lm_head.weight.device
        model = self._adapted if self._adapted is not None else self._copy.to(device)
        with self._adapted.disable_adapter() if self._adapted is not None else nullcontext():
            found = [objective.score(model, batch)[0] for batch in batches]
        if self._copy is not None:
            self._copy.to(self._home)
        return found
