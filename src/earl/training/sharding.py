"""One policy cut over several ranks by torch's FSDP2: weights, gradients and optimiser state.

Each decoder layer is a unit that is gathered when it is needed; embedding, norm and head are the last
unit. `torch.distributed.fsdp.fully_shard` is called directly and not through accelerate, whose FSDP
does not run on CPUs, where the tests run. What needs whole weights outside the objective's own forward
pass (sampling, scoring by the reference) asks for them with `gathered`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from earl.config.sections import Precision, Ranks
from earl.training.ranks import computes_in_bf16

_UNIT = "Emu3DecoderLayer"
_GIVES_BACK = "_earl_gives_back"  # whether a unit lets go of its weights after its forward pass


def shard(objective: nn.Module, ranks: Ranks, precision: Precision, accelerator: Accelerator) -> bool:
    """Cut an objective's weights over the ranks, in place; False where there is nothing to cut.

    Gathered weights are bfloat16 where the recipe computes in it; gradients are summed in float32.
    """
    if not _is_cut(ranks, accelerator):
        return False
    narrow = gathered_dtype(ranks, precision, accelerator)
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {"mp_policy": policy}
    for module in list(objective.modules()):
        if type(module).__name__ == _UNIT:
            fully_shard(module, reshard_after_forward=ranks.reshard, **options)
            setattr(module, _GIVES_BACK, ranks.reshard)
    fully_shard(objective, **options)  # the root keeps what it gathered until its backward pass
    return True


def gathered_dtype(ranks: Ranks, precision: Precision, accelerator: Accelerator) -> torch.dtype | None:
    """What gathered weights have; None where they keep their own, or are not cut."""
    narrow = _is_cut(ranks, accelerator) and computes_in_bf16(precision, accelerator.device)
    return torch.bfloat16 if narrow else None


def _is_cut(ranks: Ranks, accelerator: Accelerator) -> bool:
    return ranks.sharding == "fsdp2" and accelerator.num_processes > 1


@contextmanager
def gathered(objective: nn.Module) -> Iterator[None]:
    """Whole weights on every rank, as plain tensors, while this lasts; nothing where they are not cut.

    Entering is collective, what happens inside is not: each rank may do as many forward passes as it has.
    """
    units = [module for module in objective.modules() if isinstance(module, FSDPModule)]
    if not units:
        yield
        return
    # The objective is the root of its units; a layer that is used before it would take itself for one.
    units[0]._get_fsdp_state()._lazy_init()
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(getattr(unit, _GIVES_BACK, False), recurse=False)
            unit.reshard()


@contextmanager
def accumulating(objective: nn.Module) -> Iterator[None]:
    """Gradients of this backward pass stay on their rank; the last micro-batch's passes them around."""
    assert isinstance(objective, FSDPModule)
    objective.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        objective.set_requires_gradient_sync(True)
