"""Sequences of different lengths to one padded batch, plain or with shared sources.

Edits of one source image all begin with the same ids: BOS and that image. Where a bundle
holds several of them, the prefix is laid down once (`prefix_PL`) and `owner_B` says which
prefix each sequence continues.

Axes: B sequences, T tokens, P prefixes, L tokens of a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from earl.data.examples import Example

if TYPE_CHECKING:
    from typing_extensions import Self

Bundle = Sequence[Example]
"""Examples that share their first `prefix` ids, or a single one."""


@dataclass(frozen=True)
class Batch:
    """Padded on the right.

    `kinds_BT` is `earl.sequence.kinds.Kind`, FORCED (0) on prompts and padding; `loss_BT` is where a
    loss is taken; `changed_BT` marks visual tokens in cells that the edit changes. With a prefix,
    `ids_BT` and the others hold only what follows it.
    """

    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool, true where there is a token
    kinds_BT: Tensor  # int64
    changed_BT: Tensor  # bool
    active: int  # tokens with a loss
    prefix_PL: Tensor | None = None  # int64
    prefix_mask_PL: Tensor | None = None  # bool
    owner_B: Tensor | None = None  # int64, row of prefix_PL

    @property
    def loss_BT(self) -> Tensor:
        return self.kinds_BT != 0

    @property
    def sequences(self) -> int:
        return len(self.ids_BT)

    def to(self, device: torch.device) -> Self:
        if self.ids_BT.device == device:
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(bundles: Sequence[Bundle], pad: int, *, share: bool = False) -> Batch:
    """Pad to the longest.

    Args:
        bundles: at least one. If any has several examples, all are split into prefix and rest.
        share: split them in any case.
        pad: id of the padding; it is masked out and never has a loss.
    """
    shared = share or any(len(bundle) > 1 for bundle in bundles)
    examples = [example for bundle in bundles for example in bundle]
    cuts = [example.prefix if shared else 0 for example in examples]
    ids = _pad([e.ids[cut:] for e, cut in zip(examples, cuts, strict=True)], pad)
    kinds = _pad([e.kinds[cut:] for e, cut in zip(examples, cuts, strict=True)], 0)
    changed = _pad([e.changed[cut:] for e, cut in zip(examples, cuts, strict=True)], 0).bool()
    mask = _mask([len(e) - cut for e, cut in zip(examples, cuts, strict=True)], ids.shape[1])
    batch = Batch(ids, mask, kinds, changed, int((kinds != 0).sum()))
    if not shared:
        return batch
    prefixes = [bundle[0].ids[: bundle[0].prefix] for bundle in bundles]
    prefix = _pad(prefixes, pad)
    return replace(
        batch,
        prefix_PL=prefix,
        prefix_mask_PL=_mask([len(ids) for ids in prefixes], prefix.shape[1]),
        owner_B=torch.tensor([index for index, bundle in enumerate(bundles) for _ in bundle]),
    )


def _pad(rows: Sequence[np.ndarray], value: int) -> Tensor:
    longest = max(map(len, rows))
    table = np.full((len(rows), longest), value, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
