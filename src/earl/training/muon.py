"""Muon for matrices and convolution kernels: orthogonalized momentum.

`torch.optim.Muon` takes matrices only. A convolution kernel is a matrix too, output channels by
everything else. The world's vision tokenizer was trained with it, but its gain there was not measured
apart from other changes (docs/lab-notes/). On matrices this class equals torch's own (a test holds them
together).

Source: Jordan 2024, "Muon: an optimizer for hidden layers"; the scale of the update as in
Liu et al. 2025 (arXiv 2502.16982), so that AdamW's learning rates fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from earl.policy.devices import native_bf16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; those beyond the first are flattened.

    Under several ranks, which all hold the same gradients, each orthogonalises its share of the matrices
    and gives the others what it found.

    Args:
        params: parameters or groups.
        lr: step size, in the units of AdamW's.
        momentum: share of the old average kept, in [0, 1); Nesterov's form is used.
        weight_decay: decoupled, times `lr`.
        rounds: of the Newton-Schulz iteration.
        dtype: of the iteration; None takes bfloat16 where the device has it natively, else float32.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rounds: int = 5,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.dtype = dtype
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
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, update in zip(moved, self._updates(moved, group), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * max(update.shape) ** 0.5  # the root mean square of AdamW's updates
                parameter.add_(update.view_as(parameter).to(parameter.dtype), alpha=-group["lr"] * scale)
        return loss

    def _ahead(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's look ahead along the moved average of the gradients, as a matrix."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)  # type: ignore[arg-type]
        average = state["momentum_buffer"]
        average.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum).flatten(1)  # type: ignore[union-attr]

    def _updates(self, moved: list[nn.Parameter], group: dict[str, Any]) -> Iterator[Tensor]:
        """The directions of these parameters, in their order, as matrices; one at a time on one rank."""
        ahead = (self._ahead(parameter, group["momentum"]) for parameter in moved)
        ranks = distributed.get_world_size() if distributed.is_initialized() else 1
        if ranks == 1 or not moved:
            return (orthogonalise(matrix, group["rounds"], self.dtype) for matrix in ahead)
        return iter(self._shared(list(ahead), group["rounds"], ranks))

    def _shared(self, matrices: list[Tensor], rounds: int, ranks: int) -> list[Tensor]:
        # Dealt out by size, so that all ranks take about as long; a sum with zeros changes nothing.
        order = sorted(range(len(matrices)), key=lambda index: (-matrices[index].numel(), index))
        found = [torch.zeros_like(matrix) for matrix in matrices]
        for index in order[distributed.get_rank() :: ranks]:
            found[index].copy_(orthogonalise(matrices[index], rounds, self.dtype))
        flat = torch.cat([matrix.flatten() for matrix in found])
        distributed.all_reduce(flat)
        parts = flat.split([matrix.numel() for matrix in matrices])
        return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


def orthogonalise(matrix: Tensor, rounds: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """The nearest matrix with equal singular values, about: shape as given (N, M), `dtype` as in `Muon`."""
    if dtype is None:
        dtype = torch.bfloat16 if native_bf16(matrix.device) else torch.float32
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
