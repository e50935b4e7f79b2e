"""Hidden states of a batch whose sequences share their source pictures.

The prefix (BOS and the source picture, about half of an edit's tokens) goes through the
transformer once; each of its edits then attends to the keys and values it left. Values and
gradients are those of the plain pass; the work is less by nearly the share of the prefix.

Axes: B sequences, T tokens, P prefixes, C hidden channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from earl.data.collate import Batch
from earl.policy import policy_of


def shared_hidden_states(policy: Any, batch: Batch) -> Tensor:
    """The last layer's output after its norm over `batch.ids_BT`, (B, T, C).

    Padding is on the right, where causal attention keeps it from every real token; its own
    states mean nothing.
    """
    transformer = policy_of(policy).model
    if batch.prefix_PT is None:
        return transformer(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
    assert batch.prefix_mask_PT is not None and batch.owner_B is not None
    cache = DynamicCache(config=policy_of(policy).config)
    transformer(input_ids=batch.prefix_PT, past_key_values=cache, use_cache=True)
    cache.batch_select_indices(batch.owner_B)
    width = batch.ids_BT.shape[1]
    steps_T = torch.arange(width, device=batch.ids_BT.device)
    lengths_B = batch.prefix_mask_PT.sum(dim=1)[batch.owner_B]
    mask = None
    if not bool(batch.prefix_mask_PT.all()):  # grids of several sizes: hide the shorter prefixes' padding
        rest = torch.ones_like(batch.ids_BT, dtype=torch.bool)
        mask = torch.cat([batch.prefix_mask_PT[batch.owner_B], rest], dim=1).long()
    return transformer(
        input_ids=batch.ids_BT,
        attention_mask=mask,
        position_ids=lengths_B[:, None] + steps_T[None, :],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
