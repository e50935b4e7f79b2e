"""Sequences of different lengths to one padded batch.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from earl.data.examples import Example


@dataclass(frozen=True)
class Batch:
    """Padded on the right.

    `kinds_BT` is `earl.sequence.Kind`, FORCED (0) on prompts and padding; `loss_BT` is where a
    loss is taken; `changed_BT` marks visual tokens in cells that the edit changes.
    """

    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool, true where there is a token
    kinds_BT: Tensor  # int64
    changed_BT: Tensor  # bool
    active: int  # tokens with a loss

    @property
    def loss_BT(self) -> Tensor:
        return self.kinds_BT != 0

    @property
    def sequences(self) -> int:
        return len(self.ids_BT)

    def to(self, device: torch.device) -> Batch:
        if self.ids_BT.device == device:
            return self
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("ids_BT", "mask_BT", "kinds_BT", "changed_BT")
        }
        return replace(self, **moved)


def collate(examples: Sequence[Example], pad: int, *, multiple: int = 1) -> Batch:
    """Pad to the longest, rounded up to a multiple of `multiple` tokens.

    Args:
        examples: at least one.
        pad: id of the padding; it is masked out and never has a loss.
    """
    longest = max(map(len, examples))
    shape = len(examples), -(-longest // multiple) * multiple
    ids = np.full(shape, pad, np.int64)
    mask, changed = np.zeros(shape, bool), np.zeros(shape, bool)
    kinds = np.zeros(shape, np.int64)
    for row, example in enumerate(examples):
        length = len(example)
        ids[row, :length] = example.ids
        kinds[row, :length] = example.kinds
        changed[row, :length] = example.changed
        mask[row, :length] = True
    active = int((kinds != 0).sum())
    return Batch(*map(torch.from_numpy, (ids, mask, kinds, changed)), active)
