"""Muon for matrices and convolution kernels: momentum whose directions are all made equally long.

`torch.optim.Muon` takes matrices only. A convolution kernel is a matrix too, output channels by
everything else. The world's vision tokenizer was trained with it, but its gain there was not measured
apart from other changes (docs/lab-notes.md). On matrices this class equals torch's own (a test holds them
together).

Source: Jordan 2024, "Muon: an optimizer for hidden layers"; the scale of the update as in
Liu et al. 2025 (arXiv 2502.16982), so that AdamW's learning rates fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; those beyond the first are flattened.

    Args:
        params: parameters or groups.
        lr: step size, in the units of AdamW's.
        momentum: share of the old average kept, in [0, 1); Nesterov's form is used.
        weight_decay: decoupled, times `lr`.
        rounds: of the Newton-Schulz iteration.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rounds: int = 5,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rounds": rounds}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)  # type: ignore[arg-type]
        average = state["momentum_buffer"]
        average.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(average, group["momentum"]).flatten(1)  # type: ignore[union-attr]
        update = orthogonalise(ahead, group["rounds"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        scale = 0.2 * max(update.shape) ** 0.5  # the root mean square of AdamW's updates
        parameter.add_(update.view_as(parameter).to(parameter.dtype), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with equal singular values, about: bfloat16, shape as given (N, M)."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
