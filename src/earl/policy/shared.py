"""Hidden states of sequences with a common prefix, which is computed once.

The prefix (a source image with several edits, a prompt with its rollouts) goes through the
transformer once; each sequence then attends to the keys and values it left. Values and gradients
are those of the plain pass; the work is less by nearly the share of the prefix.

`branched_hidden_states` gives the same from one long row per prefix and an attention mask in which
no continuation sees another: more attention, but it can recompute activations in the backward pass
(gradient checkpointing), which a cache cannot.

Axes: B sequences, T their tokens, P prefixes, L tokens of a prefix, C hidden channels, N branches.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from earl.policy.likelihood import policy_of


def shared_hidden_states(
    policy: Any,
    ids_BT: Tensor,
    prefix_PL: Tensor | None = None,
    prefix_mask_PL: Tensor | None = None,
    owner_B: Tensor | None = None,
) -> Tensor:
    """The last layer's output after its norm over `ids_BT`, (B, T, C).

    Padding is on the right everywhere, where causal attention keeps it from every real token; its
    own states mean nothing.

    Args:
        ids_BT: what follows the prefixes; without prefixes the whole sequences.
        prefix_PL, prefix_mask_PL: the prefixes and where they have tokens.
        owner_B: the row of `prefix_PL` that each sequence continues.
    """
    transformer = policy_of(policy).model
    if prefix_PL is None:
        return transformer(input_ids=ids_BT, use_cache=False).last_hidden_state
    assert prefix_mask_PL is not None and owner_B is not None
    cache = DynamicCache(config=policy_of(policy).config)
    keyword = _cache_keyword(type(transformer).forward)
    transformer(input_ids=prefix_PL, use_cache=True, **{keyword: cache})
    cache.batch_select_indices(owner_B)
    steps_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    lengths_B = prefix_mask_PL.sum(dim=1)[owner_B]
    mask = None
    if not bool(prefix_mask_PL.all()):  # prefixes of several lengths: hide the shorter ones' padding
        rest = torch.ones_like(ids_BT, dtype=torch.bool)
        mask = torch.cat([prefix_mask_PL[owner_B], rest], dim=1).long()
    output = transformer(
        input_ids=ids_BT,
        attention_mask=mask,
        position_ids=lengths_B[:, None] + steps_T[None, :],
        use_cache=True,
        **{keyword: cache},
    )
    return output.last_hidden_state


@functools.cache
def _cache_keyword(forward: Callable[..., Any]) -> str:
    """`cache` since transformers 5.24, `past_key_values` before."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def branched_hidden_states(
    policy: Any, ids_BT: Tensor, prefix_PL: Tensor, prefix_mask_PL: Tensor, owner_B: Tensor
) -> Tensor:
    """As `shared_hidden_states`, in one pass without a cache: rows of a prefix and its N branches."""
    P, L = prefix_PL.shape
    T = ids_BT.shape[1]
    place_B = torch.tensor(_places(owner_B.tolist()), device=ids_BT.device)
    branches = int(place_B.max()) + 1
    steps_T = torch.arange(T, device=ids_BT.device)
    columns_BT = L + place_B[:, None] * T + steps_T
    rows_B1 = owner_B[:, None]
    width = L + branches * T
    ids_PX = prefix_PL.new_zeros(P, width)
    ids_PX[:, :L] = prefix_PL
    ids_PX[rows_B1, columns_BT] = ids_BT
    positions_PX = torch.arange(width, device=ids_BT.device).repeat(P, 1)
    positions_PX[:, L:] = 0
    positions_PX[rows_B1, columns_BT] = prefix_mask_PL.sum(dim=1)[owner_B][:, None] + steps_T
    at_X = torch.arange(width, device=ids_BT.device)
    branch_X = torch.where(at_X < L, -1, (at_X - L) // T)  # -1 is the prefix, seen by all
    seen_XX = (at_X[None, :] <= at_X[:, None]) & (
        (branch_X == -1)[None, :] | (branch_X[None] == branch_X[:, None])
    )
    present_PX = torch.cat([prefix_mask_PL, prefix_mask_PL.new_ones(P, width - L)], dim=1)
    # Everything sees itself, so that no row of the softmax is empty.
    seen_PXX = (seen_XX & present_PX[:, None, :]) | torch.eye(width, dtype=torch.bool, device=ids_BT.device)
    model = policy_of(policy)
    dtype = model.lm_head.weight.dtype
    if torch.is_autocast_enabled(ids_BT.device.type):
        dtype = torch.get_autocast_dtype(ids_BT.device.type)
    mask_P1XX = torch.zeros(P, 1, width, width, dtype=dtype, device=ids_BT.device)
    mask_P1XX.masked_fill_(~seen_PXX[:, None], torch.finfo(dtype).min)
    output = model.model(
        input_ids=ids_PX, attention_mask=mask_P1XX, position_ids=positions_PX, use_cache=False
    )
    hidden_PXC: Tensor = output.last_hidden_state
    return hidden_PXC[rows_B1, columns_BT]


def _places(owners: list[int]) -> list[int]:
    """The number of each sequence among those of its prefix."""
    counts: dict[int, int] = {}
    places = []
    for owner in owners:
        places.append(counts.get(owner, 0))
        counts[owner] = places[-1] + 1
    return places
