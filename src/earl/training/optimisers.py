"""AdamW, or Muon on the hidden matrices and AdamW on everything else; their learning rate over the steps.

Muon (`earl.training.muon`) orthogonalises the momentum of a matrix or a convolution kernel; it is
meant for what lies between hidden activations, so embeddings, the head, norms and biases stay with AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from earl.config.sections import Optimiser, Schedule
from earl.training.muon import Muon

# A parameter whose name holds one of these is an embedding or a head, whatever its shape.
_NOT_HIDDEN = ("embed", "lm_head", "codebook", "quantize", "conv_in")
_LEAST = 16  # rows or columns; below that there is little to make equal


def create_optimisers(
    parameters: Iterable[tuple[str, nn.Parameter]], settings: Optimiser
) -> list[torch.optim.Optimizer]:
    """Optimisers over the named parameters that require a gradient.

    Each group carries `peak_rate`, which the schedule multiplies. Weight decay acts on
    matrices (two or more dimensions), not on norms and biases.
    """
    hidden: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        embedding = any(part in name for part in _NOT_HIDDEN)
        if settings.name == "muon" and not embedding and _is_broad(parameter):
            hidden.append(parameter)
        else:
            (decayed if parameter.ndim >= 2 else plain).append(parameter)
    optimisers: list[torch.optim.Optimizer] = []
    weighed = ((decayed, settings.weight_decay), (plain, 0.0))
    if groups := [{"params": found, "weight_decay": decay} for found, decay in weighed if found]:
        rate, betas, eps = settings.learning_rate, settings.betas, settings.eps
        optimisers.append(torch.optim.AdamW(groups, lr=rate, betas=betas, eps=eps, fused=True))
    if hidden:
        assert settings.muon_learning_rate is not None, "the recipe's check guarantees it"
        muon = Muon(hidden, lr=settings.muon_learning_rate, weight_decay=settings.weight_decay)
        optimisers.append(muon)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_rate"] = group["lr"]
    return optimisers


def _is_broad(parameter: nn.Parameter) -> bool:
    """Whether a parameter is, flattened, a matrix with enough rows and columns for Muon."""
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= _LEAST


def set_rates(optimisers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to its peak times the factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_rate"] * factor


def rate_factor(schedule: Schedule, step: int, *, total_steps: int, peak: float) -> float:
    """Factor of the peak learning rate at a step.

    Linear from 0 over the warm-up (step 1 is 1/warmup), then a half cosine from 1 to
    `minimum / peak` at the end, or 1 throughout.

    Args:
        step: 1 is the first update.
        total_steps: where the cosine ends.
        peak: learning rate that `schedule.minimum` refers to.
    """
    if step <= schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.name == "constant":
        return 1.0
    floor = schedule.minimum / peak
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, total_steps - schedule.warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
