"""One policy sharded over several ranks by torch's FSDP2: weights, gradients and optimiser state.

Each decoder layer is a unit that is unsharded when it is needed; embedding, norm and head are the last
unit. `torch.distributed.fsdp.fully_shard` is called directly and not through accelerate, whose FSDP
does not run on CPUs, where the tests run. What needs full weights outside the objective's own forward
pass (sampling, scoring by the reference) asks for them with `unsharded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from earl.config.stages import PolicyRecipe, TrainingRecipe
from earl.training.ranks import computes_in_bf16

_UNIT = "Emu3DecoderLayer"


def shard(objective: nn.Module, recipe: TrainingRecipe, accelerator: Accelerator) -> bool:
    """Shard an objective's weights over the ranks, in place; False where the recipe or a single rank asks
    for none.

    Unsharded weights are bfloat16 where the recipe computes in it; gradients are summed in float32.
    """
    if not _is_sharded(recipe, accelerator):
        return False
    narrow = unsharded_dtype(recipe, accelerator)
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {"mp_policy": policy}
    for module in list(objective.modules()):
        if type(module).__name__ == _UNIT:
            fully_shard(module, reshard_after_forward=True, **options)  # as ZeRO-3
    fully_shard(objective, **options)  # the root stays unsharded until its backward pass
    return True


def unsharded_dtype(recipe: TrainingRecipe, accelerator: Accelerator) -> torch.dtype | None:
    """Dtype of unsharded weights; None where they keep their own, or are not sharded."""
    narrow = _is_sharded(recipe, accelerator) and computes_in_bf16(recipe.precision, accelerator.device)
    return torch.bfloat16 if narrow else None


def _is_sharded(recipe: TrainingRecipe, accelerator: Accelerator) -> bool:
    wanted = isinstance(recipe, PolicyRecipe) and recipe.ranks.sharding == "fsdp2"
    return wanted and accelerator.num_processes > 1


@contextmanager
def unsharded(objective: nn.Module) -> Iterator[None]:
    """Full weights on every rank, as plain tensors, while this lasts.

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
            unit.set_reshard_after_forward(unit is not units[0], recurse=False)
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
