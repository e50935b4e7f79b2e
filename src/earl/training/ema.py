"""A moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from earl.config.sections import Ema


class WeightAverage:
    """Exponential moving average of the parameters that receive gradients, in their own dtype."""

    def __init__(self, model: nn.Module, settings: Ema) -> None:
        self.decay = settings.decay
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shadow: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Fold in the weights after update number `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))  # the start is forgotten quickly
        parameters: list[Tensor] = list(self._parameters.values())
        torch._foreach_lerp_(list(self.shadow.values()), parameters, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights sit in the model inside the block; the trained ones come back after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            trained = parameter.detach().clone()
            parameter.copy_(self.shadow[name])
            self.shadow[name].copy_(trained)
