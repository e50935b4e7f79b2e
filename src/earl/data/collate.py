"""Sequences of different lengths to one padded batch, plain or with shared sources.

Edits of one source image all begin with the same ids: BOS and that picture. Where a bundle
holds several of them, the prefix is laid down once (`prefix_PT`) and `owner_B` says which
prefix each sequence continues.

Axes: B sequences, T tokens, P prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from earl.data.examples import Example

Bundle = Sequence[Example]
"""Examples that share their first `prefix` ids, or a single one."""


@dataclass(frozen=True)
class Batch:
    """Padded on the right.

    `kinds_BT` is `earl.sequence.Kind`, FORCED (0) on prompts and padding; `loss_BT` is where a
    loss is taken; `changed_BT` marks visual tokens in cells that the edit changes. With a prefix,
    `ids_BT` and the others hold only what follows it.
    """

    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool, true where there is a token
    kinds_BT: Tensor  # int64
    changed_BT: Tensor  # bool
    active: int  # tokens with a loss
    prefix_PT: Tensor | None = None  # int64
    prefix_mask_PT: Tensor | None = None  # bool
    owner_B: Tensor | None = None  # int64, row of prefix_PT

    @property
    def loss_BT(self) -> Tensor:
        return self.kinds_BT != 0

    @property
    def sequences(self) -> int:
        return len(self.ids_BT)

    def to(self, device: torch.device) -> Batch:
        if self.ids_BT.device == device:
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(bundles: Sequence[Bundle], pad: int, *, multiple: int = 1) -> Batch:
    """Pad to the longest, rounded up to a multiple of `multiple` tokens.

    Args:
        bundles: at least one. If any has several examples, all are split into prefix and rest.
        pad: id of the padding; it is masked out and never has a loss.
    """
    shared = any(len(bundle) > 1 for bundle in bundles)
    examples = [example for bundle in bundles for example in bundle]
    cuts = [example.prefix if shared else 0 for example in examples]
    ids = _pad([e.ids[cut:] for e, cut in zip(examples, cuts, strict=True)], pad, multiple)
    kinds = _pad([e.kinds[cut:] for e, cut in zip(examples, cuts, strict=True)], 0, multiple)
    changed = _pad([e.changed[cut:] for e, cut in zip(examples, cuts, strict=True)], 0, multiple).bool()
    mask = _mask([len(e) - cut for e, cut in zip(examples, cuts, strict=True)], ids.shape[1])
    batch = Batch(ids, mask, kinds, changed, int((kinds != 0).sum()))
    if not shared:
        return batch
    prefixes = [bundle[0].ids[: bundle[0].prefix] for bundle in bundles]
    prefix = _pad(prefixes, pad, 1)
    return replace(
        batch,
        prefix_PT=prefix,
        prefix_mask_PT=_mask([len(ids) for ids in prefixes], prefix.shape[1]),
        owner_B=torch.tensor([index for index, bundle in enumerate(bundles) for _ in bundle]),
    )


def _pad(rows: Sequence[np.ndarray], value: int, multiple: int) -> Tensor:
    longest = max(map(len, rows))
    table = np.full((len(rows), -(-longest // multiple) * multiple), value, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
